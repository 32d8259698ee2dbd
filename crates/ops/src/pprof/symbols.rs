//! Addresses to functions, files and lines, from this process's own debug information. It is read
//! anew for each profile and given back, since it takes tens of megabytes.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;

use object::read::ReadCache;
use object::{Object, ObjectSegment};

use super::mappings::{self, Mapping};

/// A function at an address, or one that was inlined there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// As it is written in the source, with its path.
    pub(super) name: String,
    /// As the linker knows it.
    pub(super) system_name: String,
    pub(super) file: String,
    /// 0 when it is not known.
    pub(super) line: i64,
}

/// What is known of a profile's addresses.
#[derive(Debug)]
pub(super) struct Symbols {
    by_address: HashMap<usize, Vec<Symbol>>,
    mappings: Vec<Mapping>,
}

impl Symbols {
    /// Resolves every address. Blocks: the first takes as long as reading the binary's line
    /// tables, the others microseconds each.
    pub(super) fn resolve(addresses: BTreeSet<usize>) -> Self {
        let mappings = mappings::of_this_process();
        let full_names = full_names(&addresses, &mappings);
        let resolved = addresses.into_iter().map(|address| {
            let mut symbols = functions_at(address);
            match (symbols.last_mut(), full_names.get(&address)) {
                (Some(outermost), Some(mangled)) => outermost.rename(mangled),
                (Some(_), None) => {}
                (None, _) => symbols.push(nameless(address, &mappings)),
            }
            (address, symbols)
        });
        let by_address = resolved.collect();
        backtrace::clear_symbol_cache();
        Self { by_address, mappings }
    }

    /// The functions at `address`, the innermost of those that were inlined first. Never empty
    /// for an address that was resolved.
    pub(super) fn at(&self, address: usize) -> &[Symbol] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// What is mapped to be run.
    pub(super) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }
}

impl Symbol {
    fn rename(&mut self, mangled: &str) {
        self.name = format!("{:#}", rustc_demangle::demangle(mangled));
        self.system_name = mangled.to_owned();
    }
}

/// The names in the symbol table of this program. Line tables name a function without its path,
/// and `turn` alone says little; the table has the path, of functions that were not inlined.
fn full_names(addresses: &BTreeSet<usize>, mappings: &[Mapping]) -> HashMap<usize, String> {
    read_full_names(addresses, mappings).unwrap_or_default() // a stripped program has none
}

fn read_full_names(
    addresses: &BTreeSet<usize>,
    mappings: &[Mapping],
) -> Option<HashMap<usize, String>> {
    let program = mappings::of_the_program(mappings);
    let cache = ReadCache::new(File::open("/proc/self/exe").ok()?);
    let object = object::File::parse(&cache).ok()?;
    let names = object.symbol_map();
    let segments: Vec<(u64, u64, u64)> = object
        .segments()
        .map(|segment| (segment.file_range().0, segment.file_range().1, segment.address()))
        .collect();
    // From where it is mapped to its place in the file, and from there to where it was linked.
    let linked = |address: u64| {
        let mapping = program.iter().find(|m| (m.start..m.end).contains(&address))?;
        let place = address - mapping.start + mapping.offset;
        let (start, _, linked) =
            segments.iter().find(|(start, length, _)| (*start..start + length).contains(&place))?;
        Some(place - start + linked)
    };
    let name = |address: &usize| {
        let name = names.containing(linked(*address as u64)?)?.name().to_owned();
        Some((*address, name))
    };
    Some(addresses.iter().filter_map(name).collect())
}

fn functions_at(address: usize) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    // The crate takes return addresses and looks one byte before; ours lie inside the instruction.
    backtrace::resolve(address.wrapping_add(1) as *mut _, |symbol| {
        let Some(name) = symbol.name() else { return };
        symbols.push(Symbol {
            name: format!("{name:#}"),
            system_name: String::from_utf8_lossy(name.as_bytes()).into_owned(),
            file: symbol.filename().map(|file| file.display().to_string()).unwrap_or_default(),
            line: symbol.lineno().map_or(0, i64::from),
        });
    });
    symbols
}

fn nameless(address: usize, mappings: &[Mapping]) -> Symbol {
    let inside = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&(address as u64));
    let name = match mappings.iter().find(inside) {
        Some(mapping) => format!("[{}]", mapping.short_name()),
        None => "[unknown]".to_owned(),
    };
    Symbol { system_name: name.clone(), name, file: String::new(), line: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_of_this_crate() -> usize {
        std::hint::black_box(17)
    }

    #[test]
    fn a_function_has_its_name_file_and_line() {
        let address = a_function_of_this_crate as fn() -> usize as usize;
        let symbols = Symbols::resolve(BTreeSet::from([address]));
        let symbol = symbols.at(address).last().expect("a symbol");
        assert!(symbol.name.ends_with("symbols::tests::a_function_of_this_crate"), "{symbol:?}");
        assert!(symbol.file.ends_with("pprof/symbols.rs"), "{symbol:?}");
        assert!(symbol.line > 0, "{symbol:?}");
    }

    #[test]
    fn an_address_of_nobody_is_unknown() {
        let symbols = Symbols::resolve(BTreeSet::from([16]));
        assert_eq!(symbols.at(16)[0].name, "[unknown]");
    }
}
