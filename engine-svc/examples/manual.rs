//! Writes the manual page and what shells complete: `make manuals`.

fn main() -> std::io::Result<()> {
    manual::write::<engine_svc::Settings>(engine_svc::PREFIX, "engine-svc")
}
