//! Error codes (RFC 9114 §8.1, RFC 9204 §6).
//!
//! A rule that is broken on one stream ends that stream; a broken rule of frames, settings or the
//! compression of fields ends the connection.

/// No error.
pub(crate) const NO_ERROR: u32 = 0x100;
/// The peer breaks a rule that has no code of its own.
pub(crate) const GENERAL_PROTOCOL_ERROR: u32 = 0x101;
/// The stream is not accepted.
pub(crate) const STREAM_CREATION_ERROR: u32 = 0x103;
/// A stream was closed that the connection needs.
pub(crate) const CLOSED_CRITICAL_STREAM: u32 = 0x104;
/// The frame must not come there.
pub(crate) const FRAME_UNEXPECTED: u32 = 0x105;
/// The frame breaks its layout.
pub(crate) const FRAME_ERROR: u32 = 0x106;
/// The peer wants too much.
pub(crate) const EXCESSIVE_LOAD: u32 = 0x107;
/// A number is used wrongly.
pub(crate) const ID_ERROR: u32 = 0x108;
/// The settings break their rules.
pub(crate) const SETTINGS_ERROR: u32 = 0x109;
/// The first frame of the control stream has no settings.
pub(crate) const MISSING_SETTINGS: u32 = 0x10a;
/// The request was not looked at.
pub(crate) const REQUEST_REJECTED: u32 = 0x10b;
/// The request is cancelled.
pub(crate) const REQUEST_CANCELLED: u32 = 0x10c;
/// The stream has ended without a request.
pub(crate) const REQUEST_INCOMPLETE: u32 = 0x10d;
/// The request is malformed.
pub(crate) const MESSAGE_ERROR: u32 = 0x10e;
/// A field section cannot be decoded.
pub(crate) const QPACK_DECOMPRESSION_FAILED: u32 = 0x200;
/// The encoder stream has an instruction that must not come.
pub(crate) const QPACK_ENCODER_STREAM_ERROR: u32 = 0x201;
/// The decoder stream has an instruction that must not come.
pub(crate) const QPACK_DECODER_STREAM_ERROR: u32 = 0x202;
