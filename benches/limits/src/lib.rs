//! Loops that do nothing but what a limit is made of. JavaScript times them.
//!
//! Each dot product loop keeps its accumulators and one side's operands in registers and makes the other
//! operand anew for every eight products, so that nothing can be moved out of the loop: that one addition in
//! seventeen instructions is part of the limit, as unpacking is part of any kernel.

#![no_std]
#![cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]

use core::arch::wasm32::*;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unreachable()
}

/// Products that one call of a dot product loop makes per step.
const PRODUCTS: usize = 8;

/// Reads `bytes` bytes at `start`, a multiple of 128, and returns a sum that depends on all of them.
///
/// # Safety
/// Those bytes are in memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stream(start: *const v128, bytes: usize) -> i32 {
    let mut sums = [i32x4_splat(0); PRODUCTS];
    for block in 0..bytes / (16 * PRODUCTS) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let value = unsafe { v128_load(start.add(block * PRODUCTS + i)) };
            *sum = i32x4_add(*sum, value);
        }
    }
    fold(sums)
}

/// `steps` times eight `i16x8_relaxed_dot_i8x16_i7x16` with an addition: 16 multiply-adds each.
#[unsafe(no_mangle)]
pub extern "C" fn dot_i16(steps: usize) -> i32 {
    run(steps, |a, b, sum| {
        i16x8_add(sum, i16x8_relaxed_dot_i8x16_i7x16(a, b))
    })
}

/// `steps` times eight `i32x4_relaxed_dot_i8x16_i7x16_add`: 16 multiply-adds each.
#[unsafe(no_mangle)]
pub extern "C" fn dot_i32(steps: usize) -> i32 {
    run(steps, |a, b, sum| {
        i32x4_relaxed_dot_i8x16_i7x16_add(a, b, sum)
    })
}

/// `steps` times eight `f32x4_relaxed_madd`: 4 multiply-adds each.
#[unsafe(no_mangle)]
pub extern "C" fn madd_f32(steps: usize) -> i32 {
    run(steps, |a, b, sum| f32x4_relaxed_madd(a, b, sum))
}

fn run(steps: usize, product: impl Fn(v128, v128, v128) -> v128) -> i32 {
    let operands: [v128; 4] = core::array::from_fn(|i| i8x16_splat(i as i8 + 1));
    let mut sums = [i32x4_splat(0); PRODUCTS];
    let mut changing = i8x16_splat(1);
    for _ in 0..steps {
        changing = i8x16_add(changing, operands[0]);
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = product(changing, operands[i % 4], *sum);
        }
    }
    fold(sums)
}

fn fold(sums: [v128; PRODUCTS]) -> i32 {
    let all = sums.into_iter().fold(i32x4_splat(0), |a, b| v128_xor(a, b));
    i32x4_extract_lane::<0>(all)
        ^ i32x4_extract_lane::<1>(all)
        ^ i32x4_extract_lane::<2>(all)
        ^ i32x4_extract_lane::<3>(all)
}
