//! The executable mappings of this process, read from `/proc/self/maps` (proc(5)).

/// A part of a file that is mapped to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) offset: u64,
    pub(super) file: String,
}

impl Mapping {
    /// The last part of the file's name: `weir`, `libc.so.6`, `[vdso]`.
    pub(super) fn short_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file).trim_matches(['[', ']'])
    }
}

/// The mappings of this process; none where `/proc` is not mounted.
pub(super) fn of_this_process() -> Vec<Mapping> {
    std::fs::read_to_string("/proc/self/maps").map(|maps| parse(&maps)).unwrap_or_default()
}

/// The name of a file as it was before it was removed or replaced, as an update does.
fn present(file: &str) -> &str {
    file.strip_suffix(" (deleted)").unwrap_or(file)
}

/// Those of the program itself, out of `mappings`.
pub(super) fn of_the_program(mappings: &[Mapping]) -> Vec<&Mapping> {
    let link = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let file = present(link.to_str().unwrap_or_default());
    mappings.iter().filter(|mapping| mapping.file == file).collect()
}

/// Lines are `start-end perms offset device inode file`.
fn parse(maps: &str) -> Vec<Mapping> {
    let line = |line: &str| {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let runs = fields.next()?.contains('x');
        let offset = fields.next()?;
        let file = present(fields.nth(2)?.trim_start()).to_owned();
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        (runs && !file.is_empty()).then_some(Mapping {
            start: hex(start)?,
            end: hex(end)?,
            offset: hex(offset)?,
            file,
        })
    };
    maps.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_run_and_has_a_file_is_listed() {
        let maps = "\
55d0c0a00000-55d0c0a40000 r--p 00000000 fe:00 1234                       /usr/bin/weir\n\
55d0c0a40000-55d0c0b00000 r-xp 00040000 fe:00 1234                       /usr/bin/weir\n\
55d0c1a40000-55d0c1b00000 rw-p 00000000 00:00 0                          [heap]\n\
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n\
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]\n\
7fff00000000-7fff00002000 r-xp 00000000 fe:00 99 /opt/my app/weir (deleted)\n";
        let mappings = parse(maps);
        assert_eq!(mappings.len(), 3);
        assert_eq!(mappings[0].offset, 0x40000);
        assert_eq!(mappings[0].short_name(), "weir");
        assert_eq!(mappings[1].short_name(), "vdso");
        assert_eq!(mappings[2].file, "/opt/my app/weir");
    }
}
