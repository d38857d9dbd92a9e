// Bakes the folder of libtorch into the plugin, the program and the tests as their run path,
// so that GStreamer's plugin scanner finds libtorch without LD_LIBRARY_PATH.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
