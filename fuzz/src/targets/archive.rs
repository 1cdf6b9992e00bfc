//! An archive described by the input, made in memory under a known passphrase,
//! then damaged, with or without new codes for what was changed.
//!
//! - Not damaged: it is accepted, and holds exactly what it was made of.
//! - With a manifest and its header: accepted only if nothing that is bound was
//!   changed, whoever computed codes.
//! - Without new codes: accepted only if every code fits, and then each file
//!   is what it was, but for what format 3 cannot know without a manifest (see
//!   `judge.rs`).
//! - From a file that can seek and from a pipe: the same.
//! - Never a panic, and no control character in what an error says.
//!
//! Lives here: the input, and inputs to begin with. May not live here: how an
//! archive is made (`recipe.rs`), and what may be accepted (`judge.rs`).

use arbitrary::{Arbitrary, Unstructured};

use super::Seed;
use super::judge::judge;
use super::recipe::{File, Filter, Form, Made, Member, mac_text};
use crate::random::Random;

/// What an input says.
#[derive(Arbitrary, Debug)]
pub struct Recipe {
    form: Form,
    files: Vec<File>,
    damages: Vec<Damage>,
}

/// One change.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Damage {
    what: What,
    /// Where; each is taken modulo what there is.
    member: u8,
    at: u16,
    /// Whether the member gets a code that fits.
    sign: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum What {
    /// Some bits of the data.
    Flip(u8),
    /// The end of the data.
    Cut,
    /// A member and its code are gone; or one of the two is.
    Drop,
    LoseMac,
    LoseData,
    /// Once more, or elsewhere.
    Double(u8),
    Move(u8),
    /// The data of another, whose code comes along.
    Trade(u8),
    /// Another file's name, or another number.
    Rename(u8),
    Renumber(u8),
    /// Some bits of the code's text.
    Mac(u8),
    /// A line of the header.
    Header(Edit),
    /// Some bits of the outer archive, or its end.
    Outer(u8),
    OuterCut,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Edit {
    Encrypted,
    Filter(u8),
    Digest(u8),
    NoPromise,
    OtherPromise,
}

/// What was done besides changing members.
#[derive(Clone, Copy, Debug, Default)]
pub struct Harm {
    /// Codes were computed anew.
    pub signed: bool,
    /// Changes of bytes of the outer archive.
    pub flips: usize,
    /// Where the outer archive ends.
    pub cut: Option<usize>,
}

/// Whether the archive is accepted.
pub fn run(untrusted_bytes: &[u8]) -> bool {
    Recipe::of(untrusted_bytes).is_some_and(|recipe| recipe.run())
}

impl Recipe {
    fn of(untrusted_bytes: &[u8]) -> Option<Self> {
        Self::arbitrary(&mut Unstructured::new(untrusted_bytes)).ok()
    }

    fn run(&self) -> bool {
        let recipe = self;
        let made = recipe.form.make(&recipe.files);
        let mut damaged = made.clone();
        let mut harm = Harm::default();
        // More of them find nothing more.
        let damages = recipe.damages.iter().take(4);
        for damage in damages.clone() {
            damage.members(&mut damaged, &mut harm);
        }
        damaged.pair();
        let (mut bytes, ends) = damaged.outer();
        for damage in damages {
            damage.outer(&mut bytes, &mut harm);
        }
        judge(&made, &damaged, &ends, &bytes, harm)
    }

    /// Whether nothing but a manifest notices the one damage there is.
    fn needs_manifest(&self) -> bool {
        let [damage] = self.damages[..] else { return false };
        // Others are noticed by something else, or their kind is rare.
        let is_likely = match damage.what {
            What::Flip(_) | What::Cut => damage.sign,
            What::Drop | What::Move(_) => !damage.sign,
            What::LoseMac
            | What::LoseData
            | What::Double(_)
            | What::Trade(_)
            | What::Rename(_)
            | What::Renumber(_)
            | What::Mac(_)
            | What::Header(_)
            | What::Outer(_)
            | What::OuterCut => false,
        };
        if !is_likely {
            return false;
        }
        let mut form = self.form;
        form.manifest = false;
        // Which member it is depends on how many there are.
        let is_damaged = |form: Form| {
            let made = form.make(&self.files);
            let mut damaged = made.clone();
            damage.members(&mut damaged, &mut Harm::default());
            let data = |made: &Made| -> Vec<(Vec<u8>, Vec<u8>)> {
                let members = made.members.iter();
                members.map(|m| (m.name.clone(), m.data.clone())).collect()
            };
            let (now, then) = (data(&damaged), data(&made));
            // Another header is another backup; no manifest lists itself.
            let keeps = now.first() == then.first()
                && (!form.manifest || now.last() == then.last());
            made.header && keeps && now != then
        };
        let unbound =
            Self { form, files: self.files.clone(), damages: vec![damage] };
        is_damaged(self.form) && is_damaged(form) && unbound.run()
    }
}

impl Damage {
    fn members(self, made: &mut Made, harm: &mut Harm) {
        let digest = made.digest;
        let members = &mut made.members;
        let count = members.len();
        if count == 0 {
            return;
        }
        let index = usize::from(self.member) % count;
        let member = &mut members[index];
        let at = usize::from(self.at);
        match self.what {
            What::Flip(bits) => flip(&mut member.data, at, bits),
            What::Cut => {
                let end = at % (member.data.len() + 1);
                member.data.truncate(end);
            }
            What::Drop => {
                members.remove(index);
                return;
            }
            What::LoseMac => {
                member.mac.clear();
                return;
            }
            What::LoseData if member.mac.is_empty() => return,
            What::LoseData => {
                member.name.extend(b".hmac");
                member.data = std::mem::take(&mut member.mac);
                return;
            }
            What::Double(to) => {
                let twin = member.clone();
                members.insert(usize::from(to) % (count + 1), twin);
                return;
            }
            What::Move(to) => {
                let moved = members.remove(index);
                members.insert(usize::from(to) % count, moved);
                return;
            }
            What::Trade(with) => {
                let with = usize::from(with) % count;
                let (one, two) = (members[index].clone(), &mut members[with]);
                let (data, mac) = (two.data.clone(), two.mac.clone());
                (two.data, two.mac) = (one.data, one.mac);
                (members[index].data, members[index].mac) = (data, mac);
                return;
            }
            What::Rename(to) => {
                let other = members[usize::from(to) % count].name.clone();
                let file = |name: &[u8]| {
                    let dot = name.iter().rposition(|byte| *byte == b'.');
                    name.split_at(dot.unwrap_or(name.len())).0.to_vec()
                };
                let own = file(&members[index].name);
                let number = members[index].name[own.len()..].to_vec();
                members[index].name = [file(&other), number].concat();
                return;
            }
            What::Renumber(to) => {
                let dot = member.name.iter().rposition(|byte| *byte == b'.');
                member.name.truncate(dot.unwrap_or(member.name.len()));
                member.name.extend(format!(".{:03}", to % 32).bytes());
                return;
            }
            What::Mac(bits) => {
                flip(&mut member.mac, at, bits);
                return;
            }
            What::Header(edit) => {
                let header = &mut members[0];
                edit.apply(&mut header.data);
                self.seal(header, digest, harm);
                return;
            }
            What::Outer(_) | What::OuterCut => return,
        }
        self.seal(&mut members[index], digest, harm);
    }

    fn seal(
        self,
        member: &mut Member,
        digest: qubes_fsm::format::hmac::Digest,
        harm: &mut Harm,
    ) {
        if self.sign {
            member.mac = mac_text(digest, &member.data);
            harm.signed = true;
        }
    }

    fn outer(self, bytes: &mut Vec<u8>, harm: &mut Harm) {
        let at = usize::from(self.at) * 5 + usize::from(self.member);
        match self.what {
            What::Outer(bits) if bits != 0 => {
                flip(bytes, at, bits);
                harm.flips += 1;
            }
            What::OuterCut => {
                bytes.truncate(at % (bytes.len() + 1));
                harm.cut = Some(bytes.len());
            }
            What::Flip(_)
            | What::Cut
            | What::Drop
            | What::LoseMac
            | What::LoseData
            | What::Double(_)
            | What::Move(_)
            | What::Trade(_)
            | What::Rename(_)
            | What::Renumber(_)
            | What::Mac(_)
            | What::Header(_)
            | What::Outer(_) => {}
        }
    }

    /// A name for the seed of its kind.
    fn kind(self) -> String {
        let what = format!("{:?}", self.what);
        let letters = what.chars().filter(|c| c.is_ascii_alphabetic());
        let what: String = letters.collect();
        let sign = if self.sign { "-signed" } else { "" };
        format!("{}{sign}", what.to_lowercase())
    }
}

fn flip(bytes: &mut [u8], at: usize, bits: u8) {
    let length = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at % length) {
        *byte ^= bits;
    }
}

impl Edit {
    fn apply(self, header: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(header).into_owned();
        let filters = ["gzip", "bzip2", "xz", "zstd", "lzma"];
        let digests = ["SHA512", "SHA256", "sha1", "MD5", "whirlpool"];
        let pick = |from: [&str; 5], index| from[usize::from(index) % 5].into();
        let (key, value): (&str, Option<String>) = match self {
            Self::Encrypted if text.contains("encrypted=True") => {
                ("encrypted", Some("False".to_owned()))
            }
            Self::Encrypted => ("encrypted", Some("True".to_owned())),
            Self::Filter(to) => ("compression-filter", Some(pick(filters, to))),
            Self::Digest(to) => ("hmac-algorithm", Some(pick(digests, to))),
            Self::NoPromise => ("backup-manifest", None),
            Self::OtherPromise => {
                ("backup-manifest", Some(format!("1-{}", "5".repeat(32))))
            }
        };
        let lines = text.lines().filter_map(|line| {
            let is_it = line.split('=').next() == Some(key);
            match (&value, is_it) {
                (_, false) => Some(format!("{line}\n")),
                (Some(value), true) => Some(format!("{key}={value}\n")),
                (None, true) => None,
            }
        });
        *header = lines.collect::<String>().into_bytes();
    }
}

/// The first input of each kind that some thousands of random ones hold: whole
/// archives of each form, one of each damage, and one of each that only a
/// manifest notices.
pub fn seeds() -> Vec<Seed> {
    let mut found = std::collections::BTreeMap::new();
    for number in 0..60_000 {
        let mut random = Random(number);
        let length = 20 + random.below(60);
        let bytes: Vec<u8> =
            (0..length).map(|_| random.below(256) as u8).collect();
        let Some(recipe) = Recipe::of(&bytes) else { continue };
        let Form { encrypted, filter, manifest, .. } = recipe.form;
        let manifest_name = if manifest { "-manifest" } else { "" };
        let name = match &recipe.damages[..] {
            _ if recipe.files.len() < 2 => continue,
            [] => {
                let clear = if encrypted { "-encrypted" } else { "" };
                let filter = format!("{filter:?}").to_lowercase();
                format!("good-{filter}{clear}{manifest_name}")
            }
            [damage] if filter != Filter::Xz => {
                let name = format!("bound-{}", damage.kind());
                if manifest
                    && !found.contains_key(&name)
                    && recipe.needs_manifest()
                {
                    found.insert(name, bytes);
                    continue;
                }
                format!("damaged-{}{manifest_name}", damage.kind())
            }
            _ => continue,
        };
        found.entry(name).or_insert(bytes);
    }
    let seed = |(name, bytes): (String, Vec<u8>)| {
        // What may be accepted after damage the judge says, not the name.
        let good = match name.split('-').next() {
            Some("good") => Some(true),
            Some("bound") => Some(false),
            _ => None,
        };
        Seed { name, good, bytes }
    };
    let gap = Seed::bad("gap", GAP);
    found.into_iter().map(seed).chain([gap]).collect()
}

/// Chunks that are whole but for a number: what a campaign found with the
/// check of the numbers taken out of `fsm::restore`.
const GAP: &[u8] = &[
    0xcf, 0xfc, 0x2c, 0xf8, 0x93, 0x78, 0x6e, 0x5b, 0xe0, 0x0e, 0x09, 0x3b,
    0xf6, 0x1d, 0xe6, 0x00, 0x34, 0xef, 0x00, 0x28, 0x9f, 0x33, 0x33, 0x33,
    0x33, 0x33, 0x33, 0x33, 0x9e, 0x91, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7,
    0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0xb7, 0x64, 0x06, 0xd0,
    0x94, 0x25, 0xc9, 0xa3, 0xa8, 0x6c, 0x4e, 0xa6, 0xa8, 0xa2, 0x41, 0x5e,
    0x7b, 0x3c, 0x6f, 0x70, 0x94, 0x5e, 0x30, 0xc2, 0x22, 0x83, 0x65, 0xb8,
    0xd1,
];
