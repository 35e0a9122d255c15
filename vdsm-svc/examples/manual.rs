//! Writes the manual page and what shells complete: `make manuals`.

fn main() -> std::io::Result<()> {
    manual::write::<vdsm_svc::Settings>(vdsm_svc::PREFIX, "vdsm-svc")
}
