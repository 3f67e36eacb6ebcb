//! Frame Streams: the framing of dnstap messages, and the handshake with a receiver.
//!
//! A data frame is a length and as many bytes. A length of zero precedes a control frame: its own
//! length, its type, and fields. The sender sends READY, receives ACCEPT and sends START; at the
//! end it sends STOP and receives FINISH. Works over any reader and writer.

use std::io::{self, Read, Write};

/// Content type of the frames.
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// The control field with the content type.
const FIELD_CONTENT_TYPE: u32 = 1;
/// Maximum bytes of a control frame from a receiver.
const CONTROL_LEN_MAX: u32 = 512;

/// Types of control frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Control {
    Accept = 1,
    Start = 2,
    Stop = 3,
    Ready = 4,
    Finish = 5,
}

/// Agrees with the receiver on the content type.
///
/// # Errors
/// The receiver is silent, gone, or wants another content type.
pub(super) fn begin(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&control(Control::Ready, Some(CONTENT_TYPE)))?;
    let fields = expect(stream, Control::Accept)?;
    if !accepts(&fields, CONTENT_TYPE) {
        return Err(invalid("the receiver does not take dnstap"));
    }
    stream.write_all(&control(Control::Start, Some(CONTENT_TYPE)))
}

/// Sends STOP and waits for FINISH.
///
/// # Errors
/// The receiver is silent or gone.
pub(super) fn end(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&control(Control::Stop, None))?;
    expect(stream, Control::Finish).map(drop)
}

fn control(kind: Control, content_type: Option<&[u8]>) -> Vec<u8> {
    let mut payload = (kind as u32).to_be_bytes().to_vec();
    if let Some(content_type) = content_type {
        payload.extend(FIELD_CONTENT_TYPE.to_be_bytes());
        payload.extend((content_type.len() as u32).to_be_bytes());
        payload.extend(content_type);
    }
    let mut frame = vec![0; 4];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.append(&mut payload);
    frame
}

/// Reads a control frame of this type; returns its fields.
fn expect(stream: &mut impl Read, kind: Control) -> io::Result<Vec<u8>> {
    let mut word = || {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    };
    let (escape, len, found) = (word()?, word()?, word()?);
    if escape != 0 || !(4..=CONTROL_LEN_MAX).contains(&len) || found != kind as u32 {
        return Err(invalid("the receiver does not speak Frame Streams"));
    }
    let mut fields = vec![0; len as usize - 4];
    stream.read_exact(&mut fields)?;
    Ok(fields)
}

/// Returns true if a receiver with these fields accepts `content_type`: it names it, or none at
/// all.
fn accepts(mut fields: &[u8], content_type: &[u8]) -> bool {
    let mut names_any = false;
    while let Some((head, rest)) = fields.split_first_chunk::<8>() {
        let (kind, len) = head.split_at(4);
        let word = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u32::from(*byte));
        let Some(value) = rest.get(..word(len) as usize) else { return false };
        if word(kind) == FIELD_CONTENT_TYPE {
            names_any = true;
            if value == content_type {
                return true;
            }
        }
        fields = &rest[value.len()..];
    }
    !names_any
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::{CONTENT_TYPE, Control, accepts, begin, control, end};
    use std::io::{self, Cursor, Read, Write};

    /// A receiver with a fixed output, whatever its input is.
    struct Receiver {
        says: Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Receiver {
        fn new(says: Vec<u8>) -> Self {
            Self { says: Cursor::new(says), heard: Vec::new() }
        }
    }

    impl Read for Receiver {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.says.read(out)
        }
    }

    impl Write for Receiver {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn both_shake_hands_at_the_beginning_and_at_the_end() {
        let accept = control(Control::Accept, Some(CONTENT_TYPE));
        let finish = control(Control::Finish, None);
        let mut receiver = Receiver::new([accept, finish].concat());
        begin(&mut receiver).unwrap();
        end(&mut receiver).unwrap();
        let mut ready = b"\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16".to_vec();
        ready.extend(b"protobuf:dnstap.Dnstap");
        let mut expected = ready.clone();
        ready[11] = 2;
        expected.extend(ready);
        expected.extend(b"\0\0\0\0\0\0\0\x04\0\0\0\x03");
        assert_eq!(receiver.heard, expected);
    }

    #[test]
    fn another_content_type_or_protocol_is_an_error() {
        for says in [
            control(Control::Accept, Some(b"protobuf:other")),
            control(Control::Start, Some(CONTENT_TYPE)),
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            b"\0\0\0\0\xff\xff\xff\xff\0\0\0\x01".to_vec(),
            b"\0\0\0\0\0\0\0\x03\0\0\0\x01".to_vec(),
            Vec::new(),
        ] {
            assert!(begin(&mut Receiver::new(says)).is_err());
        }
        assert!(begin(&mut Receiver::new(control(Control::Accept, None))).is_ok());
    }

    #[test]
    fn truncated_fields_do_not_accept() {
        let whole = &control(Control::Accept, Some(CONTENT_TYPE))[12..];
        assert!(accepts(whole, CONTENT_TYPE));
        assert!((8..whole.len()).all(|len| !accepts(&whole[..len], CONTENT_TYPE)));
    }
}
