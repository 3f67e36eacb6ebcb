//! BPF programs that choose which socket of a group gets a datagram.
//!
//! Sockets that share an address (SO_REUSEPORT) are a group, numbered in the order of binding. The
//! kernel runs a classic BPF program over each datagram for the group, without its UDP header; the
//! result is the socket's number. If no socket has that number, the kernel uses the hash of
//! addresses and ports, as without a program. A load beyond the datagram's end ends the program
//! with
//! 0. This module has the instructions in use and attaches programs; the programs themselves are
//!    the business of the callers.

use super::cvt;
use libc::sock_filter;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// One instruction. The machine has an accumulator, an index register, and scratch words, which
/// must be stored before they are loaded. Jumps go forward and skip the given number of
/// instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    /// Accumulator = the four bytes at this offset, the first being the highest.
    Load(u32),
    /// Accumulator = the four bytes at this offset behind the index.
    LoadAtIndex(u32),
    /// Accumulator = the core that runs the program.
    LoadCpu,
    /// Accumulator = this constant.
    LoadConstant(u32),
    /// Accumulator = this word of scratch.
    LoadScratch(u32),
    /// Index = this word of scratch.
    LoadScratchToIndex(u32),
    /// Store the accumulator in this scratch word.
    Store(u32),
    /// Index = accumulator.
    ToIndex,
    /// Accumulator = index.
    FromIndex,
    /// Accumulator += this, modulo 2^32.
    Add(u32),
    /// Accumulator *= this, modulo 2^32.
    Multiply(u32),
    /// Accumulator %= this, which is not 0.
    Remainder(u32),
    /// Accumulator &= this.
    And(u32),
    /// Accumulator |= this.
    Or(u32),
    /// Accumulator |= index.
    OrIndex,
    /// Accumulator ^= index.
    XorIndex,
    /// Accumulator >>= this, which is less than 32.
    ShiftRight(u32),
    /// Skips this number of instructions.
    Jump(u32),
    /// Skips `then` instructions if accumulator = `value`, otherwise `otherwise` instructions.
    JumpIfEqual {
        /// Value to compare with.
        value: u32,
        /// Instructions to skip if equal.
        then: u8,
        /// Instructions to skip if not.
        otherwise: u8,
    },
    /// Ends with this result.
    Return(u32),
    /// Ends with the accumulator as the result.
    ReturnAccumulator,
}

impl Instruction {
    fn encoded(self) -> sock_filter {
        use libc::{
            BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JMP,
            BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MISC, BPF_MOD, BPF_MUL, BPF_OR, BPF_RET, BPF_RSH,
            BPF_ST, BPF_TAX, BPF_TXA, BPF_W, BPF_X, BPF_XOR,
        };
        let cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned();
        let (mut jt, mut jf) = (0, 0);
        let (code, k) = match self {
            Self::Load(offset) => (BPF_LD | BPF_W | BPF_ABS, offset),
            Self::LoadAtIndex(offset) => (BPF_LD | BPF_W | BPF_IND, offset),
            Self::LoadCpu => (BPF_LD | BPF_W | BPF_ABS, cpu),
            Self::LoadConstant(value) => (BPF_LD | BPF_IMM, value),
            Self::LoadScratch(word) => (BPF_LD | BPF_MEM, word),
            Self::LoadScratchToIndex(word) => (BPF_LDX | BPF_MEM, word),
            Self::Store(word) => (BPF_ST, word),
            Self::ToIndex => (BPF_MISC | BPF_TAX, 0),
            Self::FromIndex => (BPF_MISC | BPF_TXA, 0),
            Self::Add(value) => (BPF_ALU | BPF_ADD | BPF_K, value),
            Self::Multiply(value) => (BPF_ALU | BPF_MUL | BPF_K, value),
            Self::Remainder(value) => (BPF_ALU | BPF_MOD | BPF_K, value),
            Self::And(value) => (BPF_ALU | BPF_AND | BPF_K, value),
            Self::Or(value) => (BPF_ALU | BPF_OR | BPF_K, value),
            Self::OrIndex => (BPF_ALU | BPF_OR | BPF_X, 0),
            Self::XorIndex => (BPF_ALU | BPF_XOR | BPF_X, 0),
            Self::ShiftRight(bits) => (BPF_ALU | BPF_RSH | BPF_K, bits),
            Self::Jump(past) => (BPF_JMP | BPF_JA, past),
            Self::JumpIfEqual { value, then, otherwise } => {
                (jt, jf) = (then, otherwise);
                (BPF_JMP | BPF_JEQ | BPF_K, value)
            }
            Self::Return(value) => (BPF_RET | BPF_K, value),
            Self::ReturnAccumulator => (BPF_RET | BPF_A, 0),
        };
        // All codes are below 256.
        sock_filter { code: code as u16, jt, jf, k }
    }
}

/// Attaches `program` to the group that `socket` belongs to.
///
/// # Errors
/// `InvalidInput`: the socket does not share its address, or the kernel finds a mistake in the
/// program. `OutOfMemory`: the program is larger than `net.core.optmem_max` allows.
pub(crate) fn attach(socket: &UdpSocket, program: &[Instruction]) -> io::Result<()> {
    let mut encoded: Vec<_> = program.iter().map(|instruction| instruction.encoded()).collect();
    let len = u16::try_from(encoded.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let described = libc::sock_fprog { len, filter: encoded.as_mut_ptr() };
    let option = libc::SO_ATTACH_REUSEPORT_CBPF;
    cvt(|| {
        let place: *const libc::sock_fprog = &raw const described;
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: `place` points to `size` bytes that outlive the call; they contain a pointer to
        // `len` instructions, which outlive it too; the kernel reads and copies both.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, place.cast(), size)
        }
    })
    .map(drop)
}

/// Returns true if the kernel supports such programs (since Linux 4.5, unless a sandbox forbids
/// it).
pub(crate) fn can_attach() -> bool {
    let socket = super::socket::udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let tried = socket.and_then(|socket| {
        socket.set_reuse_port(true)?;
        attach(&socket.into(), &[Instruction::Return(0)])
    });
    tried.is_ok()
}

/// Detaches the program of the group that `socket` belongs to, if there is one.
pub(crate) fn detach(socket: &UdpSocket) {
    let nothing: libc::c_int = 0;
    let option = libc::SO_DETACH_REUSEPORT_BPF;
    // If there is none, which is the usual case, the kernel returns an error.
    let _ = cvt(|| {
        let place: *const libc::c_int = &raw const nothing;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `place` points to `size` bytes that outlive the call.
        unsafe {
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, place.cast(), size)
        }
    });
}

#[cfg(test)]
mod tests {
    use super::Instruction::{
        Add, And, FromIndex, Jump, JumpIfEqual, Load, LoadAtIndex, LoadConstant, LoadScratch,
        LoadScratchToIndex, Multiply, Or, OrIndex, Remainder, Return, ReturnAccumulator,
        ShiftRight, Store, ToIndex, XorIndex,
    };
    use super::{Instruction, attach, detach};
    use crate::sys::mmsg::RecvBatch;
    use crate::sys::socket::udp_listener;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn group(sockets: usize) -> Vec<UdpSocket> {
        let first = udp_listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        let others = (1..sockets).map(|_| udp_listener(address, true).unwrap());
        std::iter::once(first).chain(others).collect()
    }

    /// Sends a datagram and returns the socket that receives it, at once on loopback.
    fn chosen(group: &[UdpSocket], datagram: &[u8]) -> usize {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(datagram, group[0].local_addr().unwrap()).unwrap();
        let mut batch = RecvBatch::new(1, 64, false);
        loop {
            let has = |socket: &UdpSocket| batch.recv(socket.as_fd()).is_ok_and(|count| count > 0);
            if let Some(number) = group.iter().position(has) {
                return number;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_runs_as_its_instructions_say() {
        let five = Instruction::JumpIfEqual { value: 5, then: 1, otherwise: 0 };
        for (program, number) in [
            (vec![Return(3)], 3),
            (vec![Load(1), And(0xFF), ReturnAccumulator], 4),
            (vec![Load(0), ShiftRight(24), ReturnAccumulator], 0),
            (vec![LoadConstant(1), ToIndex, LoadAtIndex(0), And(0xFF), ReturnAccumulator], 4),
            (vec![LoadConstant(5), five, Return(1), Return(2)], 2),
            (vec![LoadConstant(6), five, Return(1), Return(2)], 1),
            (vec![Jump(1), Return(1), Return(2)], 2),
            (vec![LoadConstant(23), Remainder(5), ReturnAccumulator], 3),
            (vec![LoadConstant(u32::MAX), Add(3), ReturnAccumulator], 2),
            (vec![LoadConstant(0x8000_0001), Multiply(4), ReturnAccumulator], 4),
            (vec![LoadConstant(3), ToIndex, LoadConstant(2), XorIndex, ReturnAccumulator], 1),
            (vec![LoadConstant(1), ToIndex, LoadConstant(2), OrIndex, ReturnAccumulator], 3),
            (vec![LoadConstant(4), ToIndex, LoadConstant(2), FromIndex, ReturnAccumulator], 4),
            (vec![LoadConstant(2), Or(1), Store(7), LoadScratch(7), ReturnAccumulator], 3),
            (
                vec![
                    LoadConstant(2),
                    Store(7),
                    LoadScratchToIndex(7),
                    FromIndex,
                    ReturnAccumulator,
                ],
                2,
            ),
        ] {
            let group = group(5);
            attach(&group[1], &program).unwrap();
            assert_eq!(chosen(&group, &[0, 1, 2, 3, 4]), number, "{program:?}");
        }
    }

    #[test]
    fn a_short_datagram_goes_to_the_first_and_an_unknown_number_is_no_loss() {
        let group = group(3);
        attach(&group[2], &[Load(2), Return(1)]).unwrap();
        assert_eq!(chosen(&group, &[0; 6]), 1);
        for len in 0..6 {
            assert_eq!(chosen(&group, &vec![0; len]), 0, "{len} bytes");
        }
        attach(&group[2], &[Return(3)]).unwrap();
        let mut reached = [false; 3];
        while reached != [true; 3] {
            reached[chosen(&group, b"x")] = true;
        }
    }

    #[test]
    fn the_last_program_holds_until_there_is_none() {
        let group = group(2);
        for number in [1, 0, 1] {
            attach(&group[0], &[Return(number)]).unwrap();
            assert_eq!(chosen(&group, b"x"), number as usize);
        }
        detach(&group[1]);
        while chosen(&group, b"x") == 1 {}
        detach(&group[1]);
    }

    #[test]
    fn invalid_programs_and_sockets_without_a_group_are_refused() {
        let group = group(2);
        let backwards = JumpIfEqual { value: 0, then: 9, otherwise: 9 };
        for program in [vec![], vec![LoadScratch(0), Return(0)], vec![backwards, Return(0)]] {
            attach(&group[0], &program).unwrap_err();
        }
        let alone = udp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        attach(&alone, &[Return(0)]).unwrap_err();
    }
}
