//! What becomes of each file of an archive.
//!
//! Lives here: which are decoded, where to, how they get their names. May not
//! live here: the order of things (`read`), system calls (`backup::tree`).

use std::collections::HashSet;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use super::{Goal, ReadError, Reader, STORE_NAME, shown};
use crate::backup::complete::{self, ByPath, Top};
use crate::backup::decode::{DecodeError, Decoding, Memory, OutputSink, Sink};
use crate::backup::report::{DroppedBits, File, FileState, Qube};
use crate::backup::tree::{Roll, Staged, TreeError, check_path};
use crate::format::chunk;
use crate::format::document::{Document, Limits};
use crate::format::limits::{
    DECODED_BYTES_MIN, DECODED_FACTOR, MANIFEST_BYTES_MAX, STORE_BYTES_MAX,
};
use crate::format::manifest::{MANIFEST_NAME, Manifest};
use crate::format::tar::{self, safe_components};
use crate::fsm::restore::Event;

impl<'o, R: Read + Send> Reader<'_, 'o, R> {
    /// The decoder of a file, or none if it is only authenticated.
    pub(super) fn start(
        &mut self,
        file: u16,
    ) -> Result<Option<Decoding<'o>>, ReadError> {
        let Some(header) = &self.header else { return Ok(None) };
        let name = match self.report.files.get(usize::from(file)) {
            Some(file) => file.name.clone(),
            None => return Ok(None),
        };
        let top = match safe_components(&name) {
            Ok(top) => top.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>(),
            Err(error) => return Err(self.inner(error.into())),
        };
        let cipher = header.cipher()?;
        let mut kind = Top::Any;
        let (sink, limits) = if file == 0 {
            in_memory(STORE_BYTES_MAX)
        } else if name == MANIFEST_NAME {
            in_memory(MANIFEST_BYTES_MAX)
        } else {
            kind = Top::of(&name);
            let state = self.state_of(&name);
            if let Some(state) = state {
                self.set(file, state);
                return Ok(None);
            }
            self.keep_apart(&name, &top)?;
            (self.sink(file)?, tar::Limits::INNER)
        };
        let passphrase = &self.options.passphrase;
        let unpack = self.unpack.clone();
        let decoding =
            Decoding::new(cipher, unpack, passphrase, limits, top, sink);
        let mut decoding = decoding.map_err(|error| self.inner(error))?;
        decoding.limit(self.limit(&name));
        decoding.expect(kind);
        // Printed to an output a link is nothing, damaged or not.
        if !matches!(self.options.goal, Goal::Cat { .. }) {
            decoding.watch_links(complete::link_prefix(&name));
        }
        Ok(Some(decoding))
    }

    /// Bytes that an inner archive may have. Holes are none of them: an image
    /// may seem far larger than what it takes on the disk.
    //= spec/format3.md#decoding-has-a-limit
    fn limit(&self, name: &[u8]) -> u64 {
        let qube = self.qube_of(name).filter(|_| self.options.limit_decoded);
        let bytes = qube.and_then(|qube| qube.bytes);
        bytes.map_or(u64::MAX, |bytes| {
            let many = bytes.saturating_mul(DECODED_FACTOR);
            many.saturating_add(DECODED_BYTES_MIN)
        })
    }

    /// Why a file is not decoded at all, if it is not.
    fn state_of(&self, name: &[u8]) -> Option<FileState> {
        let qube = self.qube_of(name);
        match &self.options.goal {
            Goal::List => Some(FileState::LeftOut),
            Goal::Verify | Goal::Cat { .. } => None,
            Goal::Restore { .. } if qube.is_none() => Some(FileState::Unknown),
            Goal::Restore { wanted, .. } => {
                let is_wanted = wanted.is_empty()
                    || wanted.iter().any(|wanted| {
                        wanted.as_bytes() == name
                            || qube.is_some_and(|qube| qube.name == *wanted)
                    });
                (!is_wanted).then_some(FileState::LeftOut)
            }
        }
    }

    /// Refuses a file of a qube that is where another one is, or above or
    /// below it: in the directory one would have to give way.
    //= spec/format3.md#files-stand-apart
    fn keep_apart(
        &mut self,
        name: &[u8],
        top: &[Vec<u8>],
    ) -> Result<(), ReadError> {
        let judges =
            matches!(self.options.goal, Goal::Verify | Goal::Restore { .. });
        if !judges || self.qube_of(name).is_none() {
            return Ok(());
        }
        let top = top.join(&b'/');
        let below = self.tops.range([&top, &b"/"[..]].concat()..).next();
        let below = below.filter(|other| {
            let rest = other.strip_prefix(top.as_slice());
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        });
        let other = below.map(Vec::as_slice).or_else(|| {
            complete::above(&top).find(|path| self.tops.contains(*path))
        });
        if let Some(other) = other {
            let other = shown(other);
            return Err(self.inner(DecodeError::Entangled { other }));
        }
        self.tops.insert(top);
        Ok(())
    }

    pub(super) fn qube_of(&self, name: &[u8]) -> Option<&Qube> {
        self.by_path.find(name, &self.report.qubes)
    }

    fn sink(&mut self, file: u16) -> Result<Sink<'o>, ReadError> {
        if let Some(stage) = &self.stage {
            let staged = stage.begin(u64::from(file))?;
            return Ok(Sink::Tree(Box::new(staged), None));
        }
        if matches!(self.options.goal, Goal::Verify) {
            return Ok(Sink::Roll(Roll::default()));
        }
        let Goal::Cat { path, .. } = &self.options.goal else {
            return Ok(Sink::Nothing);
        };
        let wanted = safe_components(path.as_bytes())
            .map_err(|error| self.inner(error.into()))?;
        let wanted = wanted.into_iter().map(<[u8]>::to_vec).collect();
        // Given from file to file: one is decoded at a time.
        Ok(match self.output.take() {
            Some(output) => Sink::Output(OutputSink::new(wanted, output)),
            None => Sink::Nothing,
        })
    }

    pub(super) fn finish(&mut self, file: u16) -> Result<Event, ReadError> {
        let Some(decoding) = self.decoding.take() else {
            self.ready.push((file, None));
            return Ok(Event::Finished);
        };
        let decoded = decoding.finish().map_err(|error| {
            // By now the member at hand is that behind the file.
            let last = self.report.files.get(usize::from(file));
            let name = last.map_or_else(String::new, |file| {
                let number = file.chunks.saturating_sub(1);
                format!("{}.{number:03}", shown(&file.name))
            });
            self.inner_at(name, error)
        })?;
        if let Some(file) = self.report.files.get_mut(usize::from(file)) {
            file.decoded_bytes = decoded.bytes;
            if let Some(links) = decoded.links.sentence() {
                let omission = format!("{}: {links}", shown(&file.name));
                self.report.omissions.push(omission);
            }
        }
        self.set(file, FileState::Verified);
        let mut staged = None;
        match decoded.sink {
            Sink::Memory(memory) if file == 0 => {
                self.print(STORE_NAME, &memory.content)?;
                staged = self.stage_document(&memory)?;
                self.announce(memory.content)?;
                self.look_ahead()?;
                self.document = true;
            }
            Sink::Memory(Memory { content, .. }) => {
                self.print(MANIFEST_NAME, &content)?;
                if let Some(header) = &self.header {
                    let passphrase = &self.options.passphrase;
                    let manifest =
                        Manifest::parse(&content, header, passphrase)?;
                    self.manifest = Some(manifest);
                }
            }
            Sink::Tree(tree, _) => staged = Some(*tree),
            Sink::Output(sink) => {
                self.found |= sink.found;
                self.output = Some(sink.output);
            }
            Sink::Nothing | Sink::Roll(_) => {}
        }
        self.ready.push((file, staged));
        Ok(Event::Finished)
    }

    /// Refuses, before anything is in place, qubes at paths that nothing can
    /// be at, and what is there already of what every qube has. Publishing
    /// looks again.
    fn look_ahead(&self) -> Result<(), ReadError> {
        let (target, wanted) = match &self.options.goal {
            Goal::Restore { target, wanted } => {
                (Some(target), wanted.as_slice())
            }
            Goal::Verify => (None, &[][..]),
            Goal::List | Goal::Cat { .. } => return Ok(()),
        };
        let is_wanted =
            |qube: &&Qube| wanted.is_empty() || wanted.contains(&qube.name);
        let qubes = self.report.qubes.iter().filter(is_wanted);
        let mut paths: Vec<String> = qubes
            .flat_map(|qube| {
                let files = complete::wanted(qube).iter();
                files.map(|file| format!("{}{file}", qube.path))
            })
            .collect();
        if wanted.is_empty() {
            paths.push(String::from_utf8_lossy(STORE_NAME).into_owned());
        }
        for path in &paths {
            let path = safe_components(path.as_bytes())
                .map_err(|error| self.inner(error.into()))?;
            check_path(&path).map_err(|error| self.inner(error.into()))?;
            let Some(target) = target.filter(|target| !target.overwrites())
            else {
                continue;
            };
            if let Some(path) = target.preflight(&[path])?.pop() {
                return Err(TreeError::Exists { path }.into());
            }
        }
        Ok(())
    }

    /// The archive's `qubes.xml` as a file, where all is restored.
    fn stage_document(
        &self,
        memory: &Memory,
    ) -> Result<Option<Staged>, ReadError> {
        let (Goal::Restore { wanted, .. }, Some(stage)) =
            (&self.options.goal, &self.stage)
        else {
            return Ok(None);
        };
        let is_named = wanted.iter().any(|name| name.as_bytes() == STORE_NAME);
        if !wanted.is_empty() && !is_named {
            return Ok(None);
        }
        let size = memory.content.len() as u64;
        let mut staged = stage.begin(0)?;
        let mut file =
            staged.file(&[STORE_NAME], size, memory.mode, memory.time)?;
        file.write_at(0, &memory.content)?;
        file.close()?;
        staged.complete()?;
        Ok(Some(staged))
    }

    /// What `qubes.xml` announces.
    fn announce(&mut self, content: Vec<u8>) -> Result<(), ReadError> {
        let limits = Limits { bytes_max: STORE_BYTES_MAX, ..Limits::default() };
        let document = Document::parse(content, &limits)?;
        self.report.qubes = complete::announced(&document);
        self.by_path = ByPath::of(&self.report.qubes);
        Ok(())
    }

    //= spec/format3.md#a-file-appears-when-it-is-whole
    pub(super) fn publish(
        &mut self,
        file: u16,
        staged: Option<Staged>,
    ) -> Result<(), ReadError> {
        let Some(staged) = staged else { return Ok(()) };
        let name = self.report.files.get(usize::from(file));
        let name = name.map(|file| file.name.clone()).unwrap_or_default();
        let top =
            safe_components(&name).map_err(|error| self.inner(error.into()))?;
        let dropped = staged.dropped_bits();
        let dropped = dropped.map(|(count, first)| DroppedBits {
            count,
            first: first.as_os_str().as_bytes().to_vec(),
        });
        let published = staged.publish(&top, true);
        if let (Ok(_) | Err(TreeError::Unsettled { .. }), Some(dropped)) =
            (&published, dropped)
        {
            match &mut self.report.dropped_bits {
                Some(all) => all.count += dropped.count,
                none => *none = Some(dropped),
            }
        }
        self.set(
            file,
            match &published {
                // All of it has its name.
                Ok(_) | Err(TreeError::Unsettled { .. }) => FileState::Restored,
                // The error says how much.
                Err(TreeError::Partly { .. }) => FileState::Begun,
                Err(_) => FileState::Withheld,
            },
        );
        published?;
        Ok(())
    }

    /// Prints a file that was read into memory, if that is the wanted one.
    fn print(&mut self, name: &[u8], content: &[u8]) -> Result<(), ReadError> {
        let Goal::Cat { path, .. } = &self.options.goal else {
            return Ok(());
        };
        if safe_components(path.as_bytes()).ok().as_deref() != Some(&[name]) {
            return Ok(());
        }
        self.found = true;
        let Some(output) = &mut self.output else { return Ok(()) };
        let printed = output.write_all(content).and_then(|()| output.flush());
        printed.map_err(|error| {
            self.inner_at(shown(name), DecodeError::Output(error))
        })
    }

    /// Adds to the report what is announced and wanted, and was not reached:
    /// by the manifest if that was read first, or else by `qubes.xml`.
    pub(super) fn add_unread(&mut self) {
        let names: Vec<Vec<u8>> = match &self.bound.manifest {
            Some(manifest) => {
                let entries = manifest.entries().iter();
                let firsts = entries.filter_map(|entry| {
                    match chunk::Member::parse(&entry.name) {
                        Ok(chunk::Member::Chunk(chunk))
                            if chunk.number() == 0 =>
                        {
                            Some(chunk.file().to_vec())
                        }
                        _ => None,
                    }
                });
                firsts.collect()
            }
            None => complete::absent(&self.report.qubes, &self.report.files),
        };
        let files = self.report.files.iter();
        let mut there: HashSet<_> = files.map(|f| f.name.clone()).collect();
        for name in names {
            // Before `qubes.xml` is read, nobody knows what is not wanted.
            let is_wanted = !self.document || self.state_of(&name).is_none();
            if is_wanted && there.insert(name.clone()) {
                self.report.files.push(File {
                    name,
                    chunks: 0,
                    stored_bytes: 0,
                    decoded_bytes: 0,
                    state: FileState::NotRead,
                });
            }
        }
    }

    pub(super) fn drop_file(&mut self, file: u16) -> Result<(), ReadError> {
        self.set(file, FileState::Lost);
        let name = self.report.files.get(usize::from(file));
        let name = name.map(|file| file.name.clone()).unwrap_or_default();
        // Its own failure, if it has one: taken, so that no later end is
        // explained by it.
        let why = self.failures.iter_mut().find_map(Option::take);
        if name == MANIFEST_NAME {
            // Nothing is bound without it: what is wrong with it is how the
            // run ends.
            let (name, offset) = (shown(&self.item.name), self.item.end);
            let why = why.unwrap_or(ReadError::Mac { name, offset });
            self.bound.refused.get_or_insert(why);
        } else {
            let name = shown(&name);
            let why = why.map_or_else(
                || "its authentication code does not fit".to_owned(),
                |error| error.to_string(),
            );
            self.report.omissions.push(format!("{name}: left out: {why}"));
        }
        self.ready.retain(|(ready, _)| *ready != file);
        if let Some(decoding) = self.decoding.take()
            && let Sink::Tree(staged, open) = decoding.into_sink()
        {
            drop(open);
            staged.drop_it()?;
        }
        Ok(())
    }
}

/// For one small file that is read into memory: where to, and how much.
pub(super) fn in_memory<'o>(limit: usize) -> (Sink<'o>, tar::Limits) {
    let sink = Sink::Memory(Memory::new(limit as u64));
    let decoded_bytes_max = (limit as u64).saturating_mul(2);
    (sink, tar::Limits { decoded_bytes_max, ..tar::Limits::INNER })
}
