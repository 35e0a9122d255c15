//! Command lines. Files are named by their own name with `./` before it, so that no name is taken for a
//! protocol; the working directory is the image's.

use common::VolumeFormat;

/// A format in qemu's words.
pub const fn format_name(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Raw => "raw",
        VolumeFormat::Cow => "qcow2",
    }
}

/// Makes an empty image over a file that is there already and empty.
pub fn create(format: VolumeFormat, file: &str, bytes: u64) -> Vec<String> {
    let mut argv = strings(&["create", "-f", format_name(format)]);
    if format == VolumeFormat::Cow {
        argv.extend(strings(&["-o", "compat=1.1"]));
    }
    argv.extend([here(file), bytes.to_string()]);
    argv
}

/// Describes an image whose header was checked before: the format is given, never guessed.
pub fn info(format: VolumeFormat, file: &str) -> Vec<String> {
    let mut argv = strings(&["info", "--output", "json", "-U", "-f", format_name(format)]);
    argv.push(here(file));
    argv
}

/// Asks the program for its version.
pub fn version() -> Vec<String> {
    strings(&["--version"])
}

fn here(file: &str) -> String {
    format!("./{file}")
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_vdsm() {
        assert_eq!(
            create(VolumeFormat::Raw, "v", 4096).join(" "),
            "create -f raw ./v 4096"
        );
        assert_eq!(
            create(VolumeFormat::Cow, "v", 4096).join(" "),
            "create -f qcow2 -o compat=1.1 ./v 4096"
        );
        assert_eq!(
            info(VolumeFormat::Cow, "v").join(" "),
            "info --output json -U -f qcow2 ./v"
        );
    }
}
