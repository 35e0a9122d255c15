//! Command lines. Files are named by a path to an open file ([`crate::qemu_img::Given`]), which no other file can
//! take over. Images are described by an explicit node tree: the backing file of a header is not opened.

use common::VolumeFormat;
use serde_json::json;

/// The name of a format in qemu.
pub const fn format_name(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Raw => "raw",
        VolumeFormat::Cow => "qcow2",
    }
}

/// Creates an empty image in an existing empty file.
pub fn create(format: VolumeFormat, path: &str, bytes: u64) -> Vec<String> {
    let mut argv = strings(&["create", "-f", format_name(format)]);
    if format == VolumeFormat::Cow {
        argv.extend(strings(&["-o", "compat=1.1"]));
    }
    argv.extend([path.to_owned(), bytes.to_string()]);
    argv
}

/// A file that is read completely.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Its format, never guessed.
    pub format: VolumeFormat,
    /// Its path.
    pub path: &'a str,
    /// Whether its file system supports direct I/O.
    pub direct: bool,
}

/// A file that was just created: it has the right size, and reads as zeros.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// Its format.
    pub format: VolumeFormat,
    /// Its path.
    pub path: &'a str,
    /// Whether its file system supports direct I/O.
    pub direct: bool,
    /// Whether it is preallocated: then writing out of order, which is faster, causes no fragmentation.
    pub allocated: bool,
}

/// Copies everything that a guest sees. Told that the target is zero, it skips zeros; otherwise it would first punch
/// holes into the target, and a preallocated one would become sparse (tried with qemu-img 10.0.2).
pub fn convert(from: Input<'_>, to: Fresh<'_>) -> Vec<String> {
    let mut argv = strings(&["convert", "-n", "--target-is-zero"]);
    argv.extend(strings(&[
        "-f",
        format_name(from.format),
        "-T",
        cache(from.direct),
    ]));
    argv.extend(strings(&["-O", format_name(to.format), "-t", cache(to.direct)]));
    if to.allocated && to.format == VolumeFormat::Raw {
        argv.extend(strings(&["-W"]));
    }
    argv.extend([node(from.format, from.path), node(to.format, to.path)]);
    argv
}

/// Compares what a guest sees of two files; their allocation may differ. The exit status is 0 if they are equal and 1
/// if not.
pub fn compare(one: Input<'_>, other: Fresh<'_>) -> Vec<String> {
    let mut argv = strings(&["compare", "-T", cache(one.direct && other.direct)]);
    argv.extend(strings(&["-f", format_name(one.format)]));
    argv.extend(strings(&["-F", format_name(other.format)]));
    argv.extend([node(one.format, one.path), node(other.format, other.path)]);
    argv
}

/// Extends a qcow2 image; its data stays in place.
pub fn resize(path: &str, bytes: u64) -> Vec<String> {
    let mut argv = strings(&["resize", "-f", format_name(VolumeFormat::Cow)]);
    argv.extend([node(VolumeFormat::Cow, path), bytes.to_string()]);
    argv
}

/// A node tree for qemu: this file, in this format, without a backing file.
fn node(format: VolumeFormat, path: &str) -> String {
    let name = format_name(format);
    let file = json!({ "driver": "file", "filename": path });
    let tree = match format {
        VolumeFormat::Raw => json!({ "driver": name, "file": file }),
        VolumeFormat::Cow => json!({ "driver": name, "backing": null, "file": file }),
    };
    format!("json:{tree}")
}

/// Never the default cache mode, with which it would be undefined what is on disk.
const fn cache(direct: bool) -> &'static str {
    if direct { "none" } else { "writeback" }
}

/// Asks the program for its version.
pub fn version() -> Vec<String> {
    strings(&["--version"])
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/proc/self/fd/7";
    const TARGET: &str = "/proc/self/fd/8";

    /// Without a shell nothing is quoted.
    const COW_7: &str =
        r#"json:{"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/proc/self/fd/7"}}"#;
    const COW_8: &str =
        r#"json:{"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/proc/self/fd/8"}}"#;
    const RAW_8: &str = r#"json:{"driver":"raw","file":{"driver":"file","filename":"/proc/self/fd/8"}}"#;

    #[test]
    fn lines_are_those_of_vdsm() {
        assert_eq!(
            create(VolumeFormat::Raw, TARGET, 4096).join(" "),
            "create -f raw /proc/self/fd/8 4096"
        );
        assert_eq!(
            create(VolumeFormat::Cow, TARGET, 4096).join(" "),
            "create -f qcow2 -o compat=1.1 /proc/self/fd/8 4096"
        );
    }

    #[test]
    fn a_resize_opens_no_other_file_and_never_shrinks() {
        assert_eq!(
            resize(TARGET, 8192).join(" "),
            format!("resize -f qcow2 {COW_8} 8192")
        );
    }

    #[test]
    fn a_copy_names_formats_and_caches_and_writes_out_of_order_only_where_space_is_taken() {
        let from = Input {
            format: VolumeFormat::Cow,
            path: SOURCE,
            direct: true,
        };
        let to = Fresh {
            format: VolumeFormat::Raw,
            path: TARGET,
            direct: false,
            allocated: true,
        };
        let zero = "convert -n --target-is-zero";
        assert_eq!(
            convert(from, to).join(" "),
            format!("{zero} -f qcow2 -T none -O raw -t writeback -W {COW_7} {RAW_8}")
        );
        let cow = Fresh {
            format: VolumeFormat::Cow,
            ..to
        };
        assert_eq!(
            convert(from, cow).join(" "),
            format!("{zero} -f qcow2 -T none -O qcow2 -t writeback {COW_7} {COW_8}")
        );
        assert_eq!(
            compare(from, to).join(" "),
            format!("compare -T writeback -f qcow2 -F raw {COW_7} {RAW_8}")
        );
    }
}
