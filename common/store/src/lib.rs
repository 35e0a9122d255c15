//! Durable records by table and key, and the history of revisions.
//!
//! A [`Store`] commits *revisions*: each is the outcome of one input, has a number that is one more than the one before it, and holds the
//! records that it changes and what is shown of it to whoever follows the history. [`disk`] keeps them in a data directory. The trait is
//! so narrow that a replicated store could promise it as well.
//!
//! The rest of this text is the format of a data directory, for whoever writes another reader of it. `tests/it/reader.rs` is one: it
//! shares no code with the crate, follows this text alone, and agrees with the crate over real stores.
//!
//! # The pieces
//!
//! | file | what it holds | how it is written |
//! |---|---|---|
//! | `manifest` | whose directory this is, and which pieces belong to it | replaced by rename (`manifest.new`), at each change of state |
//! | `store.wal-0`, `store.wal-1` | the two *segments* of the write-ahead log | by turns; one durable write for each batch of revisions |
//! | `store.seal` | how far the log is known to be durable | after each batch, and not waited for |
//! | `store.redb` | the *tables*, a file of [redb](https://docs.rs/redb) | by a *checkpoint*: many revisions in one transaction |
//! | `lock` | nothing: whoever has the directory open holds a lock (`flock`) on it | |
//! | `reserve` | room that is held back for a full disk | |
//! | `address`, `metrics-address`, `health`, `backup` | where the service listens, and its local sockets: no part of the store | |
//!
//! A *start* is one run of the service: a random number that is drawn with it. So is the *seed* of its log, 8 bytes that count in the
//! checksums of the log: what another start wrote is no frame, and nobody can make one up inside of a record. A *generation* is one
//! turn of a segment: 1 for `store.wal-0` as a start begins, then one more with each rotation to the other segment.
//!
//! All checksums are CRC-32 (IEEE 802.3, as in zlib). "The CRC of a, b" is that of a and b one behind the other. Times are microseconds
//! since 1970-01-01 UTC, signed. Numbers are little-endian unless said otherwise; u32 and u64 are 4 and 8 bytes.
//!
//! # The manifest
//!
//! A TOML document of at most 4 KiB, whose last line is `# sum ` and the CRC of all bytes before that line, as 8 hexadecimal digits.
//!
//! | key | what |
//! |---|---|
//! | `format` | 3. Format 2 is read as well: it has no zstd. Others are refused |
//! | `service`, `owner` | the program, and which one of them (a UUID; empty after a repair that did not find it) |
//! | `store_id` | a UUID, drawn with the data directory |
//! | `state` | `making`, `open`, `moving` or `closed` |
//! | `start`, `next` | the start that the pieces are of, and with `moving` the one that is about to begin: u64 as 16 hexadecimal digits, or empty |
//! | `seed` | of the log that counts, the next start's with `moving`: the seed taken as a u64, written as `start` is |
//! | `revision` | with `moving` and `closed` the last revision of the tables, else 0 |
//! | `wal_bytes` | how long each segment is, at least |
//!
//! | state | what must be there | what a reader does |
//! |---|---|---|
//! | `making` | no tables that name a store, no segment with a header | nothing was ever acknowledged |
//! | `open` | tables of `start`, both segments, the seal | takes the tables, then the log |
//! | `moving` | tables that end with `revision` | takes the tables. A segment is of `start`, or of `next` and holds no frame, or has no header |
//! | `closed` | tables of `start` that end with `revision` | takes the tables. Segments and seal may be missing, and are of `start` |
//!
//! # A segment
//!
//! A header in a block of 4,096 bytes, then frames; all behind them means nothing (zeros, or frames of an earlier generation).
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 4 | `VWH1` |
//! | 4 | 4 | the CRC of bytes 8 to 55 |
//! | 8 | 16 | the store's id, in the order of its text |
//! | 24 | 8 | the start |
//! | 32 | 8 | the generation; 0 if nothing was written into the segment by this start |
//! | 40 | 8 | the last revision before this generation |
//! | 48 | 8 | the seed |
//!
//! Each frame begins at a multiple of 8, the first one at 4,096, and holds a batch of revisions that became durable at once:
//!
//! | offset | bytes | frame |
//! |---|---|---|
//! | 0 | 4 | `VWL1` |
//! | 4 | 4 | the CRC of the seed, the generation (u64), and the frame from byte 8 up to and including its body |
//! | 8 | 8 | its first revision |
//! | 16 | 4 | how many revisions: at least one |
//! | 20 | 4 | n, the length of its body |
//! | 24 | n | its body: the revisions, one behind the other |
//! | 24 + n | 0 to 7 | zeros, up to a multiple of 8 |
//!
//! | bytes | revision | | bytes | each of its writes |
//! |---|---|---|---|---|
//! | 8 | its time | | 4 | length of the table's name |
//! | 4 | length of its history | | 4 | length of the key |
//! | 4 | how many writes | | 4 | length of the value; 2³² − 1: the record is deleted |
//! | | its history, then its writes | | | the name (UTF-8), the key, the value |
//!
//! # The seal
//!
//! Two marks, at offsets 0 and 512, written by turns, so that one that is torn leaves the other. The one of the higher generation, then offset, counts.
//!
//! | offset | bytes | mark |
//! |---|---|---|
//! | 0 | 4 | `VSL1` |
//! | 4 | 4 | the CRC of the seed and of bytes 8 to 31 |
//! | 8 | 8 | the generation |
//! | 16 | 8 | where the last frame ends, with its zeros |
//! | 24 | 8 | the last revision in it |
//!
//! # Reading the log
//!
//! With the state `open`. From the tables come `current`, their last revision, and `generation`, the last generation of which all is in them.
//!
//! 1. If `generation` is 2⁶⁴ − 1 the tables have all of the log. Their last revision is at least that of the seal's mark.
//! 2. Else both segments are there, are at least `wal_bytes` long, and have headers of this store and this start.
//! 3. No segment is of a later generation than `generation` + 2. The segment of `generation` + 1 goes on from `current`. Its frames are read one behind the other while the magic, the CRC and the revision
//!    are right: the first revision of each is one more than the last one before it.
//! 4. If the other segment is of `generation` + 2 it is read next. Its header says what the one before ended with.
//! 5. Behind the last frame of a segment there is no frame of that generation: nothing is written behind a frame before it is durable, so
//!    only the very last one can be torn, and nobody was told of that one.
//! 6. The log reaches the mark of the seal: what lies before the mark was acknowledged.
//!
//! Whatever differs from this is damage, and is refused, named and left as it is: a piece that is missing, cut short, or of another store,
//! start or time than the rest, and a frame that is not whole before one that is. Of a damaged store [`disk::repair`] saves what is whole, into a
//! store of another id.
//!
//! # The tables
//!
//! A record's table is a table of redb of the same name, of byte strings. The store's own are these; their names begin with `runtime/`,
//! and no record's does.
//!
//! | table | key | value |
//! |---|---|---|
//! | `runtime/meta` | `store_id` | 16 bytes |
//! | | `generation` | see above: u64, big-endian |
//! | | `oldest` | the last revision whose history was forgotten: u64, big-endian; none if there is none |
//! | `runtime/starts` | u64, from 0 | a start, and the last revision before it (two u64) |
//! | `runtime/history_rows` | u64: the last revision of a row | a *row* of the history |
//! | `runtime/samples` | a family, 16 bytes | the *dictionary* of a family |
//!
//! The last revision of the tables is the key of the last row of the history; without one it is `oldest`. The start of the tables is the
//! last one of `runtime/starts`. A row of which a part was forgotten stays until all of it was.
//!
//! A record's value, in which `kind` is a u32:
//!
//! | `kind` | what follows |
//! |---|---|
//! | 0 | the value as it is |
//! | 2³² − 1 | the length of the value (u32), its family (16 bytes), and the value in zstd, with the family's dictionary |
//! | any other | `kind` is the length of the value, which follows as a block of LZ4 |
//!
//! Last comes a u32: the CRC of the table's name, the key, and all before the CRC, each behind its length as a u64; and then of the CRC of the
//! dictionary (u32), if there is one.
//!
//! A dictionary is how many records and rows are compressed against it (i64), its length (u32), the dictionary in zstd, and the CRC of the
//! family and of the dictionary (u32), which is "the CRC of the dictionary" elsewhere. For zstd it is raw content. Records that say largely the same, the parts of one
//! whole, are of one [`Family`]; its dictionary is what its head says, and the first of the other members.
//!
//! A row holds up to 64 revisions of one start. In it all numbers are big-endian:
//!
//! | bytes | row |
//! |---|---|
//! | 8 | the start |
//! | 4 | how many revisions; and bit 31: they are in zstd, else (in format 2) a block of LZ4; bit 30: with a dictionary |
//! | 4 | how many bytes they have |
//! | 0 or 16 | with bit 30 the family |
//! | | the revisions, compressed: of each its time (8), the length of its history (4), and its history |
//! | 4 | the CRC of the key (u64), of all before, and with bit 30 of the CRC of the dictionary (u32) |

//!
//! # A backup
//!
//! What [`Store::back_up`] writes: one frame of zstd, with a window of at most 2²³ bytes, and in it all records as of one revision.
//! Each text and value is a u32, its length, and its bytes.
//!
//! | what | |
//! |---|---|
//! | `VBK1` | 4 bytes |
//! | header | TOML, at most 4 KiB: `format` (1), `service`, `owner` and `store_id` as in the manifest, `revision` |
//! | for each record | the table's name, the key, the value |
//! | end | 2³² − 1 (u32); how many records there are (u64); the CRC of all before (u32) |
//!
//! Nothing follows. A store that is made of a backup has another id, and no history.

mod api;
pub mod data_dir;
pub mod disk;
mod starts;

pub use self::api::{
    Commit, Family, FamilyOf, Identity, Order, Pair, Reader, Recorded, StartSpan, Store, StoreError,
    StoreFigures, Table, Write, follows, is_empty_range,
};
pub use self::starts::Starts;
