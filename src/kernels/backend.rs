//! Which back end runs: chosen once by what the processor has, changeable for comparison.

use std::sync::atomic::{AtomicU8, Ordering};

/// A way to execute the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Backend {
    /// Plain Rust, the definition of every kernel.
    Scalar = 1,
    /// x86-64 with AVX2.
    Avx2 = 2,
    /// WebAssembly fixed-width SIMD.
    Simd128 = 3,
    /// WebAssembly relaxed SIMD (only its deterministic uses).
    RelaxedSimd128 = 4,
    /// x86-64 with SSSE3.
    Ssse3 = 5,
    /// WebAssembly relaxed SIMD with 32-bit sums of products, which some processors have an instruction for.
    RelaxedSimd128I32 = 6,
    /// 64-bit ARM.
    Neon = 7,
    /// 64-bit ARM with the extension `dotprod`.
    NeonDotprod = 8,
}

impl Backend {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Simd128 => "simd128",
            Self::RelaxedSimd128 => "relaxed-simd128",
            Self::Ssse3 => "ssse3",
            Self::RelaxedSimd128I32 => "relaxed-simd128-i32",
            Self::Neon => "neon",
            Self::NeonDotprod => "neon-dotprod",
        }
    }
}

/// 0 until the first use.
static CURRENT: AtomicU8 = AtomicU8::new(0);

/// The back ends that run here, the fastest first as far as can be known.
pub fn available() -> &'static [Backend] {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            return &[Backend::Avx2, Backend::Ssse3, Backend::Scalar];
        }
        if std::arch::is_x86_feature_detected!("ssse3") {
            return &[Backend::Ssse3, Backend::Scalar];
        }
    }
    #[cfg(target_arch = "aarch64")]
    return if std::arch::is_aarch64_feature_detected!("dotprod") {
        &[Backend::NeonDotprod, Backend::Neon, Backend::Scalar]
    } else {
        &[Backend::Neon, Backend::Scalar]
    };
    #[cfg(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        feature = "relaxed"
    ))]
    return &[
        Backend::RelaxedSimd128,
        Backend::RelaxedSimd128I32,
        Backend::Scalar,
    ];
    #[cfg(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        not(feature = "relaxed")
    ))]
    return &[Backend::Simd128, Backend::Scalar];
    #[cfg(not(any(
        target_arch = "aarch64",
        all(target_arch = "wasm32", target_feature = "simd128")
    )))]
    &[Backend::Scalar]
}

/// The back end in use.
pub fn current() -> Backend {
    match CURRENT.load(Ordering::Relaxed) {
        1 => Backend::Scalar,
        2 => Backend::Avx2,
        3 => Backend::Simd128,
        4 => Backend::RelaxedSimd128,
        5 => Backend::Ssse3,
        6 => Backend::RelaxedSimd128I32,
        7 => Backend::Neon,
        8 => Backend::NeonDotprod,
        _ => {
            let best = available()[0];
            CURRENT.store(best as u8, Ordering::Relaxed);
            best
        }
    }
}

/// Uses `backend` from now on, in every thread. Returns false, and changes nothing, where the
/// processor lacks it. Activations quantized before the change must not be used after it; a product panics where their
/// layout is not its own.
pub fn select(backend: Backend) -> bool {
    let ok = available().contains(&backend);
    if ok {
        CURRENT.store(backend as u8, Ordering::Relaxed);
    }
    ok
}

/// The name of the back end in use.
pub fn name() -> &'static str {
    current().name()
}

/// Defines functions that run a kernel, generic over `Simd`, on the back end in use. Each arm enables its
/// instruction set for a function of its own, into which the generic body is inlined.
macro_rules! dispatch {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $generic:ident;)+) => {$(
        /// # Safety
        /// As the generic kernel behind it.
        unsafe fn $name($($arg: $ty),*) {
            use $crate::kernels::backend::Backend;
            match $crate::kernels::backend::current() {
                #[cfg(target_arch = "x86_64")]
                Backend::Avx2 => {
                    #[target_feature(enable = "avx2")]
                    unsafe fn go($($arg: $ty),*) {
                        unsafe { $generic::<$crate::kernels::x86::Avx2>($($arg),*) }
                    }
                    // SAFETY: `current` is Avx2 only where the processor has it (`available`).
                    unsafe { go($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                Backend::Ssse3 => {
                    #[target_feature(enable = "ssse3")]
                    unsafe fn go($($arg: $ty),*) {
                        unsafe { $generic::<$crate::kernels::x86::Ssse3>($($arg),*) }
                    }
                    // SAFETY: `current` is Ssse3 only where the processor has it (`available`).
                    unsafe { go($($arg),*) }
                }
                #[cfg(target_arch = "aarch64")]
                Backend::NeonDotprod => {
                    #[target_feature(enable = "dotprod")]
                    unsafe fn go($($arg: $ty),*) {
                        unsafe { $generic::<$crate::kernels::neon::Neon<$crate::kernels::neon::DotProducts>>($($arg),*) }
                    }
                    // SAFETY: `current` is NeonDotprod only where the processor has it (`available`).
                    unsafe { go($($arg),*) }
                }
                #[cfg(target_arch = "aarch64")]
                Backend::Neon => unsafe { $generic::<$crate::kernels::neon::Neon<$crate::kernels::neon::Products>>($($arg),*) },
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed"))]
                Backend::RelaxedSimd128 => {
                    #[target_feature(enable = "relaxed-simd")]
                    unsafe fn go($($arg: $ty),*) {
                        unsafe { $generic::<$crate::kernels::wasm::Wasm<$crate::kernels::wasm::Relaxed>>($($arg),*) }
                    }
                    // SAFETY: a module with these instructions only validates where they exist.
                    unsafe { go($($arg),*) }
                }
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128", feature = "relaxed"))]
                Backend::RelaxedSimd128I32 => {
                    #[target_feature(enable = "relaxed-simd")]
                    unsafe fn go($($arg: $ty),*) {
                        unsafe { $generic::<$crate::kernels::wasm::Wasm<$crate::kernels::wasm::RelaxedI32>>($($arg),*) }
                    }
                    // SAFETY: as above.
                    unsafe { go($($arg),*) }
                }
                #[cfg(all(target_arch = "wasm32", target_feature = "simd128", not(feature = "relaxed")))]
                Backend::Simd128 => unsafe { $generic::<$crate::kernels::wasm::Wasm<$crate::kernels::wasm::Fixed>>($($arg),*) },
                _ => unsafe { $generic::<$crate::kernels::scalar::Scalar>($($arg),*) },
            }
        }
    )+};
}
pub(super) use dispatch;
