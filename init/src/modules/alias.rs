//! The alias database: which modules want the device that says this of itself.
//!
//! `modules.alias` has some thousand lines `alias PATTERN MODULE`. A pattern is a shell glob, and most begin with a long
//! literal part, so the lines are sorted by it: for a device only those are tried whose literal part is a beginning of
//! what the device says.

use std::collections::BTreeSet;

/// A parsed `modules.alias`.
#[derive(Debug, Default)]
pub struct Aliases {
    text: String,
    /// Sorted by literal part.
    lines: Vec<Line>,
}

/// Places in the text, as offsets: four numbers instead of three strings keep the database small.
#[derive(Debug, Clone, Copy)]
struct Line {
    pattern: u32,
    literal_end: u32,
    pattern_end: u32,
    module_end: u32,
}

impl Aliases {
    /// Parses the file's text. A line that is not an alias says nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut aliases = Self {
            text: text.to_owned(),
            lines: Vec::new(),
        };
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            aliases.lines.extend(parse_line(at, line));
            at += line.len();
        }
        let Self { text, lines } = &mut aliases;
        lines.sort_by(|a, b| slice(text, a.pattern, a.literal_end).cmp(slice(text, b.pattern, b.literal_end)));
        lines.shrink_to_fit();
        aliases
    }

    /// Names of the modules that want a device with this modalias, normalized, each once.
    #[must_use]
    pub fn lookup(&self, modalias: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for end in 0..=modalias.len() {
            let Some(beginning) = modalias.get(..end) else { continue };
            let first = self.lines.partition_point(|line| self.literal(line) < beginning);
            for line in self
                .lines
                .iter()
                .skip(first)
                .take_while(|line| self.literal(line) == beginning)
            {
                if matches(
                    slice(&self.text, line.literal_end, line.pattern_end),
                    modalias.get(end..).unwrap_or_default(),
                ) {
                    found.insert(super::normal_name(slice(
                        &self.text,
                        line.pattern_end + 1,
                        line.module_end,
                    )));
                }
            }
        }
        found
    }

    /// Number of aliases.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn literal(&self, line: &Line) -> &str {
        slice(&self.text, line.pattern, line.literal_end)
    }
}

fn slice(text: &str, from: u32, to: u32) -> &str {
    let (from, to) = (
        usize::try_from(from).unwrap_or(usize::MAX),
        usize::try_from(to).unwrap_or(usize::MAX),
    );
    text.get(from..to).unwrap_or_default()
}

fn parse_line(at: usize, line: &str) -> Option<Line> {
    const BEFORE: &str = "alias ";
    let rest = line.trim_end().strip_prefix(BEFORE)?;
    let (pattern, module) = rest.split_once(' ')?;
    let literal = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    let start = at + BEFORE.len();
    Some(Line {
        pattern: u32::try_from(start).ok()?,
        literal_end: u32::try_from(start + literal).ok()?,
        pattern_end: u32::try_from(start + pattern.len()).ok()?,
        module_end: u32::try_from(start + pattern.len() + 1 + module.len()).ok()?,
    })
}

/// Whether a glob of `*`, `?`, `[…]` and `\` matches the whole text. Time is bounded by the product of the lengths.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to go on after the newest star, which then takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let next = match pattern.get(at_pattern) {
            Some(b'*') => {
                at_pattern += 1;
                star = Some((at_pattern, at_text));
                continue;
            }
            None if at_text == text.len() => return true,
            None => None,
            Some(_) => text.get(at_text).and_then(|byte| match_one(pattern, at_pattern, *byte)),
        };
        if let Some(after) = next {
            at_pattern = after;
            at_text += 1;
        } else {
            let Some((pattern_after_star, text_of_star)) = star else {
                return false;
            };
            if text_of_star >= text.len() {
                return false;
            }
            at_pattern = pattern_after_star;
            at_text = text_of_star + 1;
            star = Some((pattern_after_star, at_text));
        }
    }
}

/// Matches one byte against the element of the pattern at `at` and returns where the next element begins.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte),
        b'\\' => (pattern.get(at + 1) == Some(&byte)).then_some(at + 2),
        literal => (*literal == byte).then_some(at + 1),
    }
}

fn match_class(pattern: &[u8], start: usize, byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(start), Some(b'!' | b'^'));
    let first = if negated { start + 1 } else { start };
    let (mut at, mut found) = (first, false);
    loop {
        let low = *pattern.get(at)?;
        // A bracket that comes first is a member.
        if low == b']' && at > first {
            return (found != negated).then_some(at + 1);
        }
        if let (Some(b'-'), Some(high)) = (pattern.get(at + 1), pattern.get(at + 2).filter(|high| **high != b']')) {
            found |= (low..=*high).contains(&byte);
            at += 3;
        } else {
            found |= low == byte;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_the_shell_does() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a*b*c", "aXbXbYc", true),
            ("?", "", false),
            ("d00[0-1]*", "d0012", true),
            ("d00[0-1]*", "d0022", false),
            ("[!a]", "b", true),
            ("[^a]", "a", false),
            ("[]a]", "]", true),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_against_a_long_text_end_soon() {
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49).repeat(20).replace('a', "b")));
    }

    #[test]
    fn devices_find_their_modules() {
        let aliases = Aliases::parse(
            "# Aliases extracted from modules themselves.\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
             alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci\n\
             alias virtio:d00000001v* virtio-net\n\
             alias usb:v0A5Cp21E8d01[0-1]*dc*dsc*dp*ic*isc*ip*in* btusb\n\
             alias cpu:type:x86,ven*fam*mod*:feature:*00C2* kvm-amd\n\
             nonsense\n",
        );
        assert_eq!(aliases.len(), 6);
        let names = |modalias: &str| aliases.lookup(modalias).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            names("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"),
            "virtio_pci"
        );
        assert_eq!(names("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"), "ahci");
        assert_eq!(names("virtio:d00000001v00001AF4"), "virtio_net");
        assert_eq!(names("virtio:d00000002v00001AF4"), "");
        assert_eq!(names("usb:v0A5Cp21E8d0112dc00dsc00dp00ic00isc00ip00in00"), "btusb");
        assert_eq!(
            names("cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,00C2,00C5"),
            "kvm_amd"
        );
        assert_eq!(names(""), "");
    }
}
