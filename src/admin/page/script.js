"use strict";
(() => {
  const PERIOD = 2000, PATIENCE = 5000;
  const live = () => document.getElementById("live");
  let timer = 0, busy = false, last = Date.now();

  // Takes over what differs and leaves the rest alone: scroll, focus, selection, what is unfolded.
  const take = (old, young) => {
    if (old.nodeType !== young.nodeType || old.nodeName !== young.nodeName) {
      old.replaceWith(young.cloneNode(true));
    } else if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== young.data && !isSelected(old)) old.data = young.data;
    } else if (!old.isEqualNode(young)) {
      for (const { name } of [...old.attributes])
        if (name !== "open" ? !young.hasAttribute(name) : false) old.removeAttribute(name);
      for (const { name, value } of young.attributes)
        if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      const was = [...old.childNodes], is = [...young.childNodes];
      is.forEach((child, at) => was[at] ? take(was[at], child) : old.append(child.cloneNode(true)));
      was.slice(is.length).forEach((child) => child.remove());
    }
  };
  const isSelected = (node) => {
    const selection = getSelection();
    return !selection.isCollapsed ? selection.containsNode(node, true) : false;
  };

  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const signal = AbortSignal.timeout(PATIENCE);
      const answer = await fetch(location.href, { cache: "no-store", signal });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const main = page.querySelector("main");
      if (!main) throw new Error("another page");
      take(document.querySelector("main"), main);
      document.title = page.title;
      last = Date.now();
      document.body.classList.remove("stale");
      say("Live, every " + PERIOD / 1000 + " s");
    } catch {
      document.body.classList.add("stale");
      say("No answer for " + Math.round((Date.now() - last) / 1000) + " s; still asking");
    }
    busy = false;
  };
  const say = (words) => { if (live().textContent !== words) live().textContent = words; };
  const start = () => {
    clearInterval(timer);
    if (document.hidden) { say("Paused while nobody looks"); return; }
    timer = setInterval(refresh, PERIOD);
    refresh();
  };

  document.addEventListener("visibilitychange", start);
  say("Live, every " + PERIOD / 1000 + " s");
  start();
})();
