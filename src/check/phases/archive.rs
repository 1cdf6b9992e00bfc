//! An archive as an attacker may change it, and the decoder that reads it.
//!
//! Lives here: what stands where in an honest archive, which content a chunk
//! has, and what a decoder makes of a row of chunks. May not live here: what
//! is verified or published; that is the machine's, in `restore`.
//!
//! Names are true names: 0 is `qubes.xml`, of one chunk. The machine sees
//! numbers, given as chunks of new names appear.

use crate::fsm::restore::{At, Member};

/// Names that there is room for, `qubes.xml` included.
pub const NAMES: usize = 3;

/// A chunk by its true name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Spot {
    /// The file.
    pub name: u8,
    /// The chunk of the file.
    pub chunk: u8,
}

/// What is in a chunk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Content {
    /// What the backup has at this place.
    This(Spot),
    /// What an older backup with the same passphrase has there.
    Older(Spot),
    /// Anything else: no mac fits.
    Forged,
}

/// What stands at a place of an archive.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Piece {
    /// The header.
    Header,
    /// Its mac.
    HeaderMac,
    /// A chunk.
    Chunk(Spot),
    /// The mac of a chunk.
    Mac(Spot),
    /// The end.
    End,
}

/// An honest archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Archive {
    /// Files besides `qubes.xml`, below [`NAMES`].
    pub files: u8,
    /// Chunks of each of them.
    pub chunks: u8,
    /// The digest of the list that it was made with.
    pub digest: u8,
    /// It has no header (client 02bc30a reads such archives).
    pub headerless: bool,
}

impl Archive {
    /// Chunks of the file of this name.
    pub fn chunks_of(self, name: u8) -> u8 {
        if name == 0 { 1 } else { self.chunks }
    }

    /// Every chunk, in order.
    pub fn spots(self) -> impl Iterator<Item = Spot> {
        (0..=self.files).flat_map(move |name| {
            (0..self.chunks_of(name)).map(move |chunk| Spot { name, chunk })
        })
    }

    /// Members of the archive.
    pub fn len(self) -> u8 {
        let header = if self.headerless { 0 } else { 2 };
        header + 2 * (1 + self.files * self.chunks)
    }

    /// Never: it has a `qubes.xml`.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What stands at `place`.
    pub fn piece(self, place: u8) -> Piece {
        let place = if self.headerless { place + 2 } else { place };
        let (pair, mac) = (place / 2, place % 2 == 1);
        if pair == 0 {
            return if mac { Piece::HeaderMac } else { Piece::Header };
        }
        match self.spots().nth(usize::from(pair - 1)) {
            Some(spot) if mac => Piece::Mac(spot),
            Some(spot) => Piece::Chunk(spot),
            None => Piece::End,
        }
    }
}

/// The numbers that the driver gave to names.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Numbers {
    names: [u8; NAMES],
    given: u8,
}

impl Numbers {
    /// `qubes.xml` has its number from the beginning. A driver that reserves
    /// none lets any file come first: a mutant.
    pub fn new(reserve_index: bool) -> Self {
        Self { names: [0; NAMES], given: u8::from(reserve_index) }
    }

    /// The true name of a number.
    pub fn name(self, number: u16) -> u8 {
        self.names[usize::from(number)]
    }

    /// The same, if that number was given.
    pub fn given(self, number: u16) -> Option<u8> {
        (number < u16::from(self.given)).then(|| self.name(number))
    }

    fn find(self, name: u8) -> Option<u16> {
        (0..u16::from(self.given)).find(|number| self.name(*number) == name)
    }

    /// What the machine is told of a chunk.
    pub fn chunk(&mut self, spot: Spot) -> Member {
        let file = self.find(spot.name).unwrap_or_else(|| {
            self.names[usize::from(self.given)] = spot.name;
            self.given += 1;
            u16::from(self.given) - 1
        });
        Member::Chunk(At { file, chunk: u32::from(spot.chunk) })
    }

    /// What the machine is told of a mac.
    pub fn mac(self, spot: Spot) -> Member {
        match self.find(spot.name) {
            Some(file) => {
                Member::Mac(At { file, chunk: u32::from(spot.chunk) })
            }
            None => Member::Other,
        }
    }
}

/// What a decoder has made of the chunks of one file.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Decoder {
    fed: Option<Fed>,
}

/// What a decoder knows of what it was fed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Fed {
    /// The chunk that it began with.
    pub begun: Content,
    /// Chunks so far.
    pub count: u8,
    /// The inner end of archive was read.
    pub ended: bool,
    /// All chunks are of one stream, in order: a checksum would fit.
    pub even: bool,
    /// Something forged is in it.
    pub forged: bool,
}

impl Decoder {
    /// What it was fed, if anything.
    pub fn fed(self) -> Option<Fed> {
        self.fed
    }

    /// Takes the next chunk in; `false`: it fails. Without a checksum only a
    /// stream that begins with no begin, or goes on after its end, is seen.
    pub fn feed(&mut self, archive: Archive, content: Content) -> bool {
        let spot = match content {
            Content::This(spot) | Content::Older(spot) => Some(spot),
            Content::Forged => None,
        };
        let last =
            spot.is_some_and(|s| s.chunk + 1 == archive.chunks_of(s.name));
        let Some(fed) = &mut self.fed else {
            let begins = spot.is_none_or(|spot| spot.chunk == 0);
            self.fed = begins.then_some(Fed {
                begun: content,
                count: 1,
                ended: last,
                even: true,
                forged: spot.is_none(),
            });
            return begins;
        };
        if fed.ended {
            return false;
        }
        let next = |begun: Spot| Spot { chunk: fed.count, ..begun };
        fed.even &= match fed.begun {
            Content::This(begun) => content == Content::This(next(begun)),
            Content::Older(begun) => content == Content::Older(next(begun)),
            Content::Forged => false,
        };
        fed.forged |= spot.is_none();
        fed.count += 1;
        fed.ended = last;
        true
    }

    /// From a begin to an inner end, under its own inner name.
    pub fn is_whole(self, name: u8) -> bool {
        self.fed.is_some_and(|fed| match fed.begun {
            Content::This(begun) | Content::Older(begun) => {
                fed.ended && begun.name == name && !fed.forged
            }
            Content::Forged => false,
        })
    }

    /// Whether a checksum over the stream fits.
    pub fn is_even(self) -> bool {
        self.fed.is_some_and(|fed| fed.even)
    }

    /// Whether it is the file of this name that was backed up.
    pub fn is_exact(self, archive: Archive, name: u8) -> bool {
        self.is_whole(name)
            && self.fed.is_some_and(|fed| {
                let begun = Spot { name, chunk: 0 };
                fed.even
                    && fed.begun == Content::This(begun)
                    && fed.count == archive.chunks_of(name)
            })
    }
}

/// What the names of an archive said so far: whether it is the one form
/// that a writer makes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Canon {
    last: Option<Spot>,
    mac_due: bool,
    /// Bit n: file n was opened.
    opened: u8,
    /// It is not.
    pub broken: bool,
}

impl Canon {
    /// The next member has this name.
    pub fn note(&mut self, piece: Piece) {
        let fits = match piece {
            Piece::Header | Piece::HeaderMac => self.last.is_none(),
            Piece::Chunk(spot) => {
                let in_run = match self.last {
                    None => spot.name == 0 && spot.chunk == 0,
                    Some(last) if last.name == spot.name => {
                        spot.chunk == last.chunk + 1
                    }
                    Some(_) => {
                        spot.chunk == 0 && self.opened & (1 << spot.name) == 0
                    }
                };
                let fits = in_run && !self.mac_due;
                self.last = Some(spot);
                self.opened |= 1 << spot.name;
                self.mac_due = true;
                fits
            }
            Piece::Mac(spot) => {
                let due = core::mem::take(&mut self.mac_due);
                due && self.last == Some(spot)
            }
            Piece::End => !self.mac_due,
        };
        self.broken |= !fits;
    }
}
