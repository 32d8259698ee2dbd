//! Who called a function that has no frame when it is interrupted: one of ours before it makes its
//! frame or after it undid it, or one of a library, which uses the frame pointer for something
//! else. Runs inside the signal handler, see [`super::sampler`].
//!
//! Most of a gateway's time is spent in `send` and `recv` of libc; without this their time would
//! belong to nobody.

use super::sampler::{Registers, WORD, Window, is_in_program, read_memory};

/// A caller, and where the walk goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) return_address: usize,
    /// The caller's own frame.
    pub(super) frame_pointer: usize,
    /// Nothing further out lies below this.
    pub(super) floor: usize,
}

/// The caller, when the interrupted function has no frame of its own.
#[cfg(target_arch = "x86_64")]
pub(super) fn before_its_frame(registers: &Registers, window: &mut Window) -> Option<Caller> {
    match is_in_program(registers.program_counter) {
        true => of_ours(registers, window),
        false => of_a_library(registers, window),
    }
}

/// The return address is in a register as long as it is not in a frame; whether it is cannot be
/// told from here.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn before_its_frame(_registers: &Registers, _window: &mut Window) -> Option<Caller> {
    None
}

/// At the first two instructions of a function, and at its last, the frame pointer is its
/// caller's. Small functions are often met there.
fn of_ours(registers: &Registers, window: &mut Window) -> Option<Caller> {
    const PUSH_RBP: u8 = 0x55;
    const MOV_RBP_RSP: [u8; 3] = [0x48, 0x89, 0xe5];
    const RET: u8 = 0xc3;
    let code: [u8; 4] = code_at(registers.program_counter.checked_sub(1)?)?;
    let slot = match code {
        [_, PUSH_RBP | RET, ..] => registers.stack_pointer,
        [PUSH_RBP, rest @ ..] if rest == MOV_RBP_RSP => registers.stack_pointer + WORD,
        _ => return None,
    };
    let return_address = window.word(slot).filter(|address| *address > 0)?;
    let frame_pointer = registers.frame_pointer;
    Some(Caller { return_address, frame_pointer, floor: slot + WORD })
}

/// How far up the stack the call into a library is looked for, in words.
const CALL_WORDS_MAX: usize = 96;
/// Registers that a library function saves between its return address and its own variables.
const SAVED_WORDS_MAX: usize = 6;
/// The caller's frame is at most this large, in bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The innermost word that is a return address into our code is the call that left it. The frame
/// pointer of that time is still in its register, or among the registers that the library saved
/// next to the return address; it is the one whose frame was itself called from our code.
fn of_a_library(registers: &Registers, window: &mut Window) -> Option<Caller> {
    let bottom = registers.stack_pointer;
    let slots = (bottom..).step_by(WORD).take(CALL_WORDS_MAX);
    for slot in slots {
        let return_address = window.word(slot)?;
        if !is_return_address(return_address) {
            continue;
        }
        let floor = slot + WORD;
        let saved = (1..=SAVED_WORDS_MAX)
            .map_while(|back| slot.checked_sub(back * WORD).filter(|slot| *slot >= bottom));
        let mut frame_pointer = registers.frame_pointer;
        if !is_frame(frame_pointer, floor, window) {
            let mut found = None;
            for slot in saved {
                found = window.word(slot).filter(|frame| is_frame(*frame, floor, window));
                if found.is_some() {
                    break;
                }
            }
            frame_pointer = found.unwrap_or(0); // the stack ends with the caller
        }
        return Some(Caller { return_address, frame_pointer, floor });
    }
    None
}

fn is_frame(frame: usize, floor: usize, window: &mut Window) -> bool {
    frame >= floor
        && frame - floor <= FRAME_BYTES_MAX
        && frame.is_multiple_of(16)
        && window.word(frame + WORD).is_some_and(is_return_address)
}

/// Whether `address` is in our code, behind a call: `E8` and four bytes, or `FF /2` with its
/// ModR/M, SIB and displacement (Intel SDM, volume 2, CALL).
fn is_return_address(address: usize) -> bool {
    const LONGEST: usize = 7;
    if !is_in_program(address) {
        return false;
    }
    let Some(code) = address.checked_sub(LONGEST).and_then(code_at::<LONGEST>) else {
        return false;
    };
    let indirect = |length: usize| {
        let [opcode, modrm] = [code[LONGEST - length], code[LONGEST - length + 1]];
        opcode == 0xff && modrm >> 3 & 7 == 2
    };
    code[LONGEST - 5] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(indirect)
}

fn code_at<const N: usize>(address: usize) -> Option<[u8; N]> {
    let mut code = [0; N];
    let first = read_memory(address, &mut code)?;
    // The rest lies on the next page.
    let rest = if first < N { read_memory(address + first, &mut code[first..])? } else { 0 };
    (first + rest == N).then_some(code)
}
