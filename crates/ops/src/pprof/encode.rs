//! A profile in the protobuf form that pprof reads: google/pprof, `proto/profile.proto`. Names and
//! numbers of the fields are that file's; those that are never written are left out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use super::profile::{self, ValueKind};
use super::symbols::{Symbol, Symbols};

/// The profile with its names, compressed as readers expect it.
///
/// # Errors
/// None that are known: it is written to memory.
pub(super) fn gzipped(profile: &profile::Profile, symbols: &Symbols) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&Writer::new(symbols).profile(profile).encode_to_vec())?;
    encoder.finish()
}

/// Gives strings, functions and locations their numbers.
struct Writer<'a> {
    symbols: &'a Symbols,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<usize, u64>,
    written: Profile,
}

impl<'a> Writer<'a> {
    fn new(symbols: &'a Symbols) -> Self {
        let mut writer = Self {
            symbols,
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            written: Profile::default(),
        };
        writer.string(""); // the first string is the empty one
        for (mapping, id) in symbols.mappings().iter().zip(1..) {
            let filename = writer.string(&mapping.file);
            writer.written.mapping.push(Mapping {
                id,
                memory_start: mapping.start,
                memory_limit: mapping.end,
                file_offset: mapping.offset,
                filename,
                // Else a reader looks for the binary to resolve what is resolved.
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            });
        }
        writer
    }

    fn profile(mut self, profile: &profile::Profile) -> Profile {
        self.written.sample_type = profile.kinds.iter().map(|kind| self.kind(*kind)).collect();
        self.written.default_sample_type = self.string(profile.kinds[1].name);
        self.written.period_type = Some(self.kind(profile.period.0));
        self.written.period = profile.period.1;
        let since = profile.since.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.written.time_nanos = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        self.written.duration_nanos =
            i64::try_from(profile.duration.as_nanos()).unwrap_or(i64::MAX);
        self.written.comment = profile.comments.iter().map(|text| self.string(text)).collect();
        self.written.sample = profile.samples.iter().map(|sample| self.sample(sample)).collect();
        self.written
    }

    fn sample(&mut self, sample: &profile::Sample) -> Sample {
        let thread = sample.thread.as_ref();
        Sample {
            location_id: sample.stack.iter().map(|address| self.location(*address)).collect(),
            value: sample.values.to_vec(),
            label: thread
                .map(|name| Label { key: self.string("thread"), str: self.string(name) })
                .into_iter()
                .collect(),
        }
    }

    fn location(&mut self, address: usize) -> u64 {
        if let Some(id) = self.locations.get(&address) {
            return *id;
        }
        let symbols = self.symbols;
        let line = symbols
            .at(address)
            .iter()
            .map(|symbol| Line { function_id: self.function(symbol), line: symbol.line })
            .collect();
        let id = self.locations.len() as u64 + 1;
        self.locations.insert(address, id);
        let inside = |mapping: &&Mapping| {
            (mapping.memory_start..mapping.memory_limit).contains(&(address as u64))
        };
        let mapping_id = self.written.mapping.iter().find(inside).map_or(0, |mapping| mapping.id);
        self.written.location.push(Location { id, mapping_id, address: address as u64, line });
        id
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let (name, filename) = (self.string(&symbol.name), self.string(&symbol.file));
        if let Some(id) = self.functions.get(&(name, filename)) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.insert((name, filename), id);
        let system_name = self.string(&symbol.system_name);
        self.written.function.push(Function { id, name, system_name, filename });
        id
    }

    fn kind(&mut self, kind: ValueKind) -> ValueType {
        ValueType { r#type: self.string(kind.name), unit: self.string(kind.unit) }
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return *index;
        }
        let index = self.strings.len() as i64;
        self.strings.insert(text.to_owned(), index);
        self.written.string_table.push(text.to_owned());
        index
    }
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}
