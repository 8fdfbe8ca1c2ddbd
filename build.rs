//! Lets the binaries find `libtensorflowlite_c.so` without `LD_LIBRARY_PATH`: a copy beside them in the target folder,
//! and run paths that are relative to the binary, so that no build machine's path is baked in.

use std::path::{Path, PathBuf};
use std::{env, fs};

const LIBRARY: &str = "libtensorflowlite_c.so";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let library = root.join("models/fetched").join(arch).join(LIBRARY);
    println!("cargo:rerun-if-changed={}", library.display());
    if !library.is_file() {
        return Err(format!("{} is missing: run `make setup` first", library.display()).into());
    }
    // OUT_DIR is <target>/<profile>/build/handloom-<hash>/out.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let profile = out
        .ancestors()
        .nth(3)
        .map(Path::to_path_buf)
        .ok_or("OUT_DIR is not inside a cargo target folder")?;
    let copy = profile.join(LIBRARY);
    let stale = fs::read(&copy).ok() != fs::read(&library).ok();
    if stale {
        // Renamed into place: a running binary may have the old one mapped.
        let partial = profile.join(format!("{LIBRARY}.part"));
        fs::copy(&library, &partial)?;
        fs::rename(&partial, &copy)?;
    }
    for path in ["$ORIGIN", "$ORIGIN/..", "$ORIGIN/../lib/handloom"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
    Ok(())
}
