//! The processor, as far as it may decide the last bits of a model's numbers: libraries choose their code by it.

/// The architecture and the extensions of the processor that math libraries use, as `x86_64 avx avx2 fma`.
#[must_use]
pub fn processor() -> String {
    let names = extensions().into_iter().filter(|(_, is_there)| *is_there);
    let names = names.map(|(name, _)| name);
    let words = std::iter::once(std::env::consts::ARCH).chain(names);
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("sse4.1", has!("sse4.1")),
        ("avx", has!("avx")),
        ("f16c", has!("f16c")),
        ("fma", has!("fma")),
        ("avx2", has!("avx2")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vnni", has!("avx512vnni")),
    ]
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<(&'static str, bool)> {
    use std::arch::is_aarch64_feature_detected as has;
    vec![
        ("neon", has!("neon")),
        ("fp16", has!("fp16")),
        ("dotprod", has!("dotprod")),
        ("i8mm", has!("i8mm")),
        ("bf16", has!("bf16")),
        ("sve", has!("sve")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_architecture_comes_first() {
        let processor = super::processor();
        assert!(processor.starts_with(std::env::consts::ARCH), "{processor}");
    }
}
