//! What a listing says of a volume: the same as VDSM's `getVolumeInfo`, and what we see beyond it.

use std::collections::BTreeSet;

use common::id::{ImageId, VolumeId};
use common::{Fault, FaultCode, VolumeFormat, Words};

use super::{Legality, Qcow2Header, Role, VolumeMeta};
use crate::file::{Dir, Kind};
use crate::names::{self, ImageFile};

/// A volume's state in one word, as VDSM gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeStatus {
    /// It is described, and may be used.
    Ok,
    /// It cannot be described; the sizes are 0 and [`VolumeInfo::fault`] says why.
    Invalid,
    /// Its metadata says that it may not be used.
    Illegal,
}

impl VolumeStatus {
    /// As VDSM says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Invalid => "INVALID",
            Self::Illegal => "ILLEGAL",
        }
    }
}

/// One volume, as seen in one image's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its id.
    pub id: VolumeId,
    /// The image in whose directory it was seen. A template is seen in every image that stands on it;
    /// [`VolumeMeta::image`] tells its own.
    pub seen_in: ImageId,
    /// The state in one word.
    pub status: VolumeStatus,
    /// The file's length in bytes.
    pub apparent_size_bytes: u64,
    /// What the file takes on the file system, in bytes.
    pub true_size_bytes: u64,
    /// Whether it has a `.meta`, readable or not. For VDSM only such is a volume; without one it is data that was made
    /// and not yet recorded, or whose record is gone.
    pub recorded: bool,
    /// What its `.meta` says; none if it cannot be read.
    pub meta: Option<VolumeMeta>,
    /// The header of a qcow2 volume; none for raw ones.
    pub qcow2: Option<Qcow2Header>,
    /// Whether its data has more than one name: a template and the images that stand on it.
    pub linked: bool,
    /// Why it is invalid.
    pub fault: Option<Fault>,
    /// What looks wrong although the volume can be described, in words.
    pub remarks: Vec<Words>,
}

/// Describes one volume. What is wrong with it is part of the description, so that one bad record hides none of
/// the others.
pub(crate) fn describe(image: &Dir, seen_in: ImageId, id: VolumeId) -> VolumeInfo {
    let mut info = VolumeInfo {
        id,
        seen_in,
        status: VolumeStatus::Invalid,
        apparent_size_bytes: 0,
        true_size_bytes: 0,
        recorded: false,
        meta: None,
        qcow2: None,
        linked: false,
        fault: None,
        remarks: Vec::new(),
    };
    if let Err(fault) = fill(&mut info, image) {
        info.fault = Some(fault);
    }
    info
}

fn fill(info: &mut VolumeInfo, image: &Dir) -> Result<(), Fault> {
    let id = info.id;
    let name = data_name(image, id)?;
    info.recorded = image.stat(names::meta_of(&name))?.is_some();
    if let Some((meta, remarks)) = read_record(image, &name, id)? {
        info.meta = Some(meta);
        info.remarks = remarks.into_iter().map(Words::from).collect();
    }
    let file = image.file(&name)?;
    let (Some(meta), Some(file)) = (&info.meta, file) else {
        let lacking = if info.meta.is_none() { "metadata" } else { "data" };
        return Err(Fault::new(
            FaultCode::VolumeMetadataInvalid,
            format!("volume {id} has no {lacking}: it is partly created or partly deleted; delete its image"),
        )
        .about(id));
    };
    if meta.format == VolumeFormat::Cow {
        match Qcow2Header::read(&file) {
            Ok(header) => {
                info.remarks
                    .extend(remarks(meta, &header).into_iter().map(Words::from));
                info.qcow2 = Some(header);
            }
            Err(e) => info.remarks.push(format!("the file {e}").into()),
        }
    }
    // Sizes last: an invalid volume has none.
    if let Some(stat) = image.stat(&name)? {
        info.apparent_size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        info.true_size_bytes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        info.linked = stat.st_nlink > 1;
    }
    info.status = match meta.legality {
        Legality::Illegal => VolumeStatus::Illegal,
        Legality::Legal | Legality::Fake => VolumeStatus::Ok,
    };
    Ok(())
}

fn remarks(meta: &VolumeMeta, header: &Qcow2Header) -> Vec<String> {
    let mut found = Vec::new();
    if i128::from(header.virtual_size_bytes) > i128::from(meta.capacity_bytes) {
        found.push(format!(
            "the header's virtual size {} is larger than CAP {}",
            header.virtual_size_bytes, meta.capacity_bytes
        ));
    }
    let parent = meta.parent.map(|p| p.to_string());
    if header.backing_file != parent {
        found.push(format!(
            "the header's backing file is {:?}, the metadata's parent {:?}",
            header.backing_file, parent
        ));
    }
    found
}

/// The name of a volume's data, in the spelling in which the volume is there; ours if it is in none.
///
/// # Errors
/// Of the file system.
pub(crate) fn data_name(image: &Dir, volume: VolumeId) -> Result<String, Fault> {
    let [ours, capitals] = names::spellings(volume);
    let there = |name: &str| -> Result<bool, Fault> {
        Ok(image.stat(name)?.is_some() || image.stat(names::meta_of(name))?.is_some())
    };
    let other = !there(&ours)? && there(&capitals)?;
    Ok(if other { capitals } else { ours })
}

/// Reads a volume's metadata; none if there is no `.meta`.
///
/// # Errors
/// Of the file system; `VOLUME_METADATA_INVALID`.
pub(crate) fn read_meta(image: &Dir, volume: VolumeId) -> Result<Option<VolumeMeta>, Fault> {
    let name = data_name(image, volume)?;
    Ok(read_record(image, &name, volume)?.map(|(meta, _)| meta))
}

fn read_record(
    image: &Dir,
    data: &str,
    volume: VolumeId,
) -> Result<Option<(VolumeMeta, Vec<String>)>, Fault> {
    match image.read_bytes(&names::meta_of(data))? {
        None => Ok(None),
        Some(text) => VolumeMeta::read(&text).map(Some).map_err(|e| e.fault(volume)),
    }
}

/// The volumes of an image: whatever has data or metadata under its name.
///
/// # Errors
/// Of the file system.
pub(crate) fn volume_ids(image: &Dir) -> Result<BTreeSet<VolumeId>, Fault> {
    let ids = image
        .entries()?
        .into_iter()
        .filter_map(|e| match ImageFile::parse(&e.name)? {
            ImageFile::Data(id) | ImageFile::Meta(id) => Some(id),
            _ => None,
        });
    Ok(ids.collect())
}

/// The image that a template belongs to, by the first of its `.meta` links that can be read; none if the volume
/// is no template or no metadata of it is left.
///
/// # Errors
/// Of the file system.
pub(crate) fn template_home(images: &Dir, volume: VolumeId) -> Result<Option<ImageId>, Fault> {
    for entry in images.entries()? {
        if entry.kind != Kind::Dir {
            continue;
        }
        let Some(image) = images.dir(&entry.name)? else {
            continue;
        };
        if let Ok(Some(meta)) = read_meta(&image, volume)
            && meta.role == Role::Shared
        {
            return Ok(Some(meta.image));
        }
    }
    Ok(None)
}
