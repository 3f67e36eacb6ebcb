//! Batches over loopback sockets.
//!
//! Loopback delivers within the send call, so nothing here waits.

use super::{QueryBatch, RecvBatch, ReplyBatch, Sent};
use crate::sys::pktinfo::Local;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Receives the datagrams just sent, which loopback has delivered within the send call.
fn received(batch: &mut RecvBatch, socket: &UdpSocket) -> Vec<Vec<u8>> {
    let count = batch.recv(socket.as_fd()).unwrap_or(0);
    (0..count).map(|i| batch.datagram(i).bytes.to_vec()).collect()
}

/// Makes the kernel refuse segmentation on this socket, which is impossible without checksums.
fn refuse_segments(socket: &UdpSocket) {
    let on: libc::c_int = 1;
    let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    // SAFETY: `value` points to `length` bytes that outlive the call, on an open socket.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, length)
    };
    assert_eq!(set, 0);
}

#[test]
fn replies_are_sent_by_socket_and_reach_their_own_peer() {
    let ((a, _), (b, _)) = (socket(), socket());
    let ((x, to_x), (y, to_y)) = (socket(), socket());
    let mut replies = ReplyBatch::new(4, 100, false);
    for (number, peer, text) in [(1, to_x, "bx"), (0, to_x, "ax"), (1, to_y, "by")] {
        replies.buffer()[..2].copy_from_slice(text.as_bytes());
        replies.commit(2, number, &peer, None);
    }
    let sent = replies.flush(|number| [&a, &b][usize::from(number)].as_fd());
    assert_eq!(sent, Sent { sent: 3, ..Sent::default() });
    assert!(replies.is_empty());
    let mut batch = RecvBatch::new(8, 100, true);
    let mut at_x = received(&mut batch, &x);
    at_x.sort();
    assert_eq!(at_x, [b"ax".to_vec(), b"bx".to_vec()]);
    assert_eq!(received(&mut batch, &y), [b"by".to_vec()]);
    assert_eq!(batch.datagram(0).peer, Some(b.local_addr().unwrap()));
}

#[test]
fn one_impossible_peer_does_not_keep_the_others_waiting() {
    let ((a, _), (x, to_x)) = (socket(), socket());
    let mut replies = ReplyBatch::new(4, 100, false);
    for peer in [to_x, "127.0.0.1:0".parse().unwrap(), to_x] {
        replies.commit(12, 0, &peer, None);
    }
    assert_eq!(replies.flush(|_| a.as_fd()), Sent { sent: 2, dropped: 1, ..Sent::default() });
    assert_eq!(received(&mut RecvBatch::new(8, 100, false), &x).len(), 2);
}

#[test]
fn more_packets_than_a_batch_holds_take_several_calls() {
    let ((from, _), (to, address)) = (socket(), socket());
    from.connect(address).unwrap();
    let packets: Vec<[u8; 1]> = (0..10).map(|i| [i]).collect();
    let slices = packets.iter().map(|packet| &packet[..]);
    let sent = QueryBatch::new(4).send(from.as_fd(), slices, false).unwrap();
    assert_eq!(sent, Sent { sent: 10, ..Sent::default() });
    assert_eq!(received(&mut RecvBatch::new(16, 4, false), &to), packets);
}

#[test]
fn packets_of_equal_length_are_joined_and_arrive_separately() {
    let ((from, _), (to, address)) = (socket(), socket());
    from.connect(address).unwrap();
    let lengths = [90, 90, 90, 70, 50, 40, 40, 60];
    let packets: Vec<Vec<u8>> =
        lengths.iter().zip(1..).map(|(length, byte)| vec![byte; *length]).collect();
    for (capacity, joined) in [(8, 6), (3, 5), (1, 0)] {
        let slices = packets.iter().map(|packet| &packet[..]);
        let sent = QueryBatch::new(capacity).send(from.as_fd(), slices, true).unwrap();
        let expected = Sent { sent: 8, joined, ..Sent::default() };
        assert_eq!(sent, expected, "in batches of {capacity}");
        assert_eq!(received(&mut RecvBatch::new(16, 100, false), &to), packets);
    }
}

#[test]
fn more_packets_than_segments_are_several_sends() {
    let ((from, _), (to, address)) = (socket(), socket());
    from.connect(address).unwrap();
    let packets = vec![[7; 60]; 150];
    let slices = packets.iter().map(|packet| &packet[..]);
    let sent = QueryBatch::new(200).send(from.as_fd(), slices, true).unwrap();
    assert_eq!(sent, Sent { sent: 150, joined: 150, ..Sent::default() });
    assert_eq!(received(&mut RecvBatch::new(200, 100, false), &to), packets);
}

#[test]
fn packets_of_a_refused_batch_are_sent_one_by_one() {
    let ((from, _), (to, address)) = (socket(), socket());
    from.connect(address).unwrap();
    refuse_segments(&from);
    let packets: Vec<[u8; 20]> = (0..10).map(|byte| [byte; 20]).collect();
    let slices = packets.iter().map(|packet| &packet[..]);
    let sent = QueryBatch::new(4).send(from.as_fd(), slices, true).unwrap();
    assert_eq!(sent, Sent { sent: 10, refused: true, ..Sent::default() });
    assert_eq!(received(&mut RecvBatch::new(16, 20, false), &to), packets);
}

#[test]
fn a_datagram_longer_than_its_buffer_is_marked_truncated() {
    let ((from, _), (to, address)) = (socket(), socket());
    for (with_addresses, most) in [(true, 2), (true, 1), (false, 2), (false, 1)] {
        let mut batch = RecvBatch::new(2, 20, with_addresses);
        for length in [50, 20, 0] {
            from.send_to(&vec![7; length], address).unwrap();
            assert_eq!(batch.recv_up_to(to.as_fd(), most).unwrap(), 1);
            let datagram = batch.datagram(0);
            let expected = (&[7u8; 20][..length.min(20)], length > 20);
            assert_eq!((datagram.bytes, datagram.truncated), expected, "{length}, {most} at most");
        }
    }
}

#[test]
fn no_more_is_received_than_requested() {
    let ((from, _), (to, address)) = (socket(), socket());
    for with_addresses in [true, false] {
        (0..8).for_each(|byte| assert_eq!(from.send_to(&[byte], address).unwrap(), 1));
        let mut batch = RecvBatch::new(4, 20, with_addresses);
        let received = [1, 2, 1, 9].map(|most| {
            let count = batch.recv_up_to(to.as_fd(), most).unwrap();
            (0..count).map(|index| batch.datagram(index).bytes[0]).collect::<Vec<_>>()
        });
        assert_eq!(received, [vec![0], vec![1, 2], vec![3], vec![4, 5, 6, 7]]);
        for most in [1, 2] {
            let nothing = batch.recv_up_to(to.as_fd(), most).unwrap_err();
            assert_eq!((nothing.kind(), batch.received()), (io::ErrorKind::WouldBlock, 0));
        }
    }
}

#[test]
fn refusal_by_the_peer_is_an_error_of_the_connection() {
    let ((from, _), (to, address)) = (socket(), socket());
    drop(to);
    from.connect(address).unwrap();
    let mut batch = QueryBatch::new(4);
    // The first datagram causes the ICMP error, and the second call returns it.
    let _ = batch.send(from.as_fd(), [&b"x"[..]], true);
    let error = batch.send(from.as_fd(), [&b"y"[..]], true).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Creates a batch of replies that may be joined, each given by the index of its peer and its
/// length. Each reply is filled with its number in the list, from 1.
fn replies(peers: &[SocketAddr], wanted: &[(usize, usize)]) -> ReplyBatch {
    let mut replies = ReplyBatch::new(16, 2_000, true);
    for ((peer, length), number) in wanted.iter().zip(1..) {
        replies.buffer()[..*length].fill(number);
        replies.commit(*length, 0, &peers[*peer], None);
    }
    replies
}

/// Returns the messages that one of the peers should receive, in any order.
fn wanted_at(peer: usize, wanted: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let numbered = wanted.iter().zip(1..).filter(|((to, _), _)| *to == peer);
    numbered.map(|((_, length), number)| vec![number; *length]).collect()
}

fn sorted(mut datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    datagrams.sort_by_key(|datagram| datagram.first().copied());
    datagrams
}

#[test]
fn replies_of_equal_length_to_one_peer_are_joined_and_arrive_separately() {
    let ((from, _), (x, to_x), (y, to_y)) = (socket(), socket(), socket());
    // To the first: 90 and 60 joined, 60, and alone those too long for every route. To the second:
    // all joined.
    let wanted =
        [(0, 60), (1, 60), (0, 90), (1, 60), (0, 60), (1, 50), (1, 60), (0, 1_500), (0, 1_500)];
    let sent = replies(&[to_x, to_y], &wanted).flush(|_| from.as_fd());
    assert_eq!(sent, Sent { sent: 9, joined: 6, ..Sent::default() });
    let mut batch = RecvBatch::new(16, 2_000, false);
    for (number, peer) in [(0, &x), (1, &y)] {
        assert_eq!(sorted(received(&mut batch, peer)), wanted_at(number, &wanted));
    }
}

#[test]
fn replies_from_several_addresses_to_one_peer_leave_from_their_own() {
    let from = UdpSocket::bind("0.0.0.0:0").unwrap();
    let (to, address) = socket();
    let mut replies = ReplyBatch::new(8, 100, true);
    let locals = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap());
    for (number, ip) in [0, 1, 0, 1, 1].map(|number| (number, locals[number])) {
        replies.buffer()[0] = number as u8;
        replies.commit(20, 0, &address, Some(Local { ip, interface: 0 }));
    }
    let sent = replies.flush(|_| from.as_fd());
    assert_eq!(sent.sent, 5);
    let mut batch = RecvBatch::new(8, 100, true);
    assert_eq!(batch.recv(to.as_fd()).unwrap(), 5);
    for datagram in (0..5).map(|index| batch.datagram(index)) {
        let own = locals[usize::from(datagram.bytes[0])];
        assert_eq!(datagram.peer.map(|peer| peer.ip()), Some(own));
    }
}

#[test]
fn after_a_refusal_replies_are_sent_one_by_one_for_a_while() {
    let ((from, _), (to, address)) = (socket(), socket());
    refuse_segments(&from);
    let wanted = [(0, 60), (0, 60), (0, 60)];
    let mut replies = replies(&[address], &wanted);
    let mut batch = RecvBatch::new(16, 2_000, false);
    assert_eq!(replies.flush(|_| from.as_fd()), Sent { sent: 3, refused: true, ..Sent::default() });
    assert_eq!(sorted(received(&mut batch, &to)), wanted_at(0, &wanted));
    let refused = (0..1_025).map(|_| {
        (0..2).for_each(|_| replies.commit(60, 0, &address, None));
        let sent = replies.flush(|_| from.as_fd());
        assert_eq!((sent.sent, received(&mut batch, &to).len()), (2, 2));
        sent.refused
    });
    assert_eq!(refused.filter(|refused| *refused).count(), 1, "tried again after a while");
}

#[test]
fn an_impossible_peer_of_several_replies_is_not_taken_for_a_refusal() {
    let ((from, _), (to, address)) = (socket(), socket());
    let peers = ["127.0.0.1:0".parse().unwrap(), address];
    let wanted = [(0, 60), (1, 60), (0, 60), (1, 60), (0, 60)];
    let sent = replies(&peers, &wanted).flush(|_| from.as_fd());
    assert_eq!((sent.sent, sent.dropped, sent.refused), (2, 3, false));
    let mut batch = RecvBatch::new(16, 2_000, false);
    assert_eq!(sorted(received(&mut batch, &to)), wanted_at(1, &wanted));
}
