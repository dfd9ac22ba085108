//! A small emulator of a terminal: what a person sees after a program has printed and the window has changed its width.
//!
//! Like almost all terminals it reflows: a line that is too long for a narrower window has several rows there. Each character has one
//! cell. It knows the escape sequences that the worker prints, and panics if it reads another one.

use std::iter::Peekable;
use std::str::Chars;

use super::terminal::LINES;

/// The beginning of the mark that a test writes into a program's output at the place where the width of the window changes.
/// The new width follows.
pub const RESIZE_MARK: &str = "resize;";

/// Erases everything from the cursor to the end of the window.
const ERASE_TO_END: &str = "\x1b[J";

/// A window and everything that it has shown.
pub struct Emulator {
    width: usize,
    rows: Vec<Row>,
    /// The row of the cursor, counted from the first one that was printed.
    row: usize,
    /// The column of the cursor.
    column: usize,
    /// The addresses of all links that were printed.
    pub links: Vec<String>,
}

#[derive(Default, Clone)]
struct Row {
    cells: Vec<char>,
    /// Whether the next row shows more of the same line.
    is_continued: bool,
}

impl Emulator {
    /// Shows the whole output of a program, in a window that first has this width.
    pub fn show(width: u16, output: &str) -> Self {
        let mut emulator = Self {
            width: width.into(),
            rows: vec![Row::default()],
            row: 0,
            column: 0,
            links: Vec::new(),
        };
        let output = with_marks_after_old_drawings(output);
        let mut chars = output.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => emulator.column = 0,
                '\n' => emulator.line_feed(),
                '\x1b' => emulator.read_escape_sequence(&mut chars),
                c if c.is_control() => panic!("the control character {c:?}"),
                c => emulator.print(c),
            }
        }
        emulator
    }

    /// All rows that the window shows or has shown.
    pub fn rows(&self) -> Vec<String> {
        let text = |row: &Row| row.cells.iter().collect::<String>().trim_end().to_owned();
        self.rows.iter().map(text).collect()
    }

    /// Moves the cursor to the next row; the column stays the same.
    fn line_feed(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(Row::default());
        }
    }

    /// Shows a character at the cursor, in the next row if this one is full.
    fn print(&mut self, c: char) {
        if self.column == self.width {
            self.rows[self.row].is_continued = true;
            self.line_feed();
            self.column = 0;
        }
        let cells = &mut self.rows[self.row].cells;
        if cells.len() <= self.column {
            cells.resize(self.column + 1, ' ');
        }
        cells[self.column] = c;
        self.column += 1;
    }

    /// Reads an escape sequence, after its first character, and does what it says.
    fn read_escape_sequence(&mut self, chars: &mut Peekable<Chars<'_>>) {
        match chars.next() {
            Some('[') => {
                let mut numbers = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_ascii_alphabetic()) {
                    numbers.push(c);
                }
                let number = numbers.parse().ok();
                match (chars.next(), number) {
                    (Some('A'), count) => {
                        let up: usize = count.unwrap_or(1);
                        let top = self.rows.len().saturating_sub(usize::from(LINES));
                        assert!(self.row >= top + up, "the cursor moves up by {up} rows");
                        self.row -= up;
                    }
                    (Some('J'), None) => {
                        self.rows.truncate(self.row + 1);
                        let row = &mut self.rows[self.row];
                        row.cells.truncate(self.column);
                        row.is_continued = false;
                    }
                    (Some('m'), _) => {}
                    other => panic!("the sequence {numbers:?} {other:?}"),
                }
            }
            Some(']') => {
                let mut text = String::new();
                for c in chars.by_ref() {
                    match c {
                        '\x07' => break,
                        '\\' if text.ends_with('\x1b') => break,
                        c => text.push(c),
                    }
                }
                let text = text.trim_end_matches('\x1b');
                if let Some(columns) = text.strip_prefix(RESIZE_MARK) {
                    self.resize(columns.parse().expect("a number"));
                } else {
                    let link = text.strip_prefix("8;;").expect("a link");
                    self.links
                        .extend((!link.is_empty()).then(|| link.to_owned()));
                }
            }
            other => panic!("the escape sequence {other:?}"),
        }
    }

    /// Changes the width of the window, and breaks all lines into rows of this width.
    fn resize(&mut self, width: usize) {
        let (mut rows, mut line) = (Vec::new(), Vec::new());
        let mut cursor = None;
        for (at, row) in self.rows.iter().enumerate() {
            if at == self.row {
                cursor = Some(line.len() + self.column);
            }
            line.extend_from_slice(&row.cells);
            if row.is_continued {
                continue;
            }
            let begin = rows.len();
            let pieces: Vec<&[char]> = match line.as_slice() {
                [] => vec![&[]],
                line => line.chunks(width).collect(),
            };
            for (number, piece) in pieces.iter().enumerate() {
                rows.push(Row {
                    cells: piece.to_vec(),
                    is_continued: number + 1 < pieces.len(),
                });
            }
            if let Some(offset) = cursor.take() {
                let row = (offset / width).min(pieces.len() - 1);
                (self.row, self.column) = (begin + row, offset - row * width);
            }
            line.clear();
        }
        (self.rows, self.width) = (rows, width);
    }
}

/// Moves each mark behind the drawings that follow it but that the program made for the old width. On every terminal, such a
/// drawing erases too few rows, so it must not count as a bug. The output is then the same as if the width had changed a
/// moment later.
fn with_marks_after_old_drawings(output: &str) -> String {
    let begin = format!("\x1b]{RESIZE_MARK}");
    let mut parts = output.split(&begin);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (columns, mut rest) = part.split_once('\x07').expect("the end of the mark");
        let width: usize = columns.parse().expect("a number");
        while let Some(drawing) =
            first_drawing(rest).filter(|drawing| table_width(drawing) >= width)
        {
            result.push_str(drawing);
            rest = &rest[drawing.len()..];
        }
        result.extend([begin.as_str(), columns, "\x07", rest]);
    }
    result
}

/// The first drawing in the output: everything before the carriage return with which the second drawing begins. `None` if there
/// is no second drawing.
fn first_drawing(output: &str) -> Option<&str> {
    let erased = output.find(ERASE_TO_END)? + ERASE_TO_END.len();
    let next = output[erased..].find(ERASE_TO_END)? + erased;
    Some(&output[..output[..next].rfind('\r')?])
}

/// The width of the widest line of the table in a drawing, in cells: the rows of runs and the last line. The program cuts these
/// lines so that the last column of the window stays free, so a line that is as wide as the window was made for a wider one.
fn table_width(drawing: &str) -> usize {
    let lines: Vec<&str> = drawing.split(['\n', '\r']).collect();
    let last = lines.last().copied();
    let rows = lines.iter().copied().filter(|line| line.contains(" #1 "));
    let widths = rows.chain(last).map(console::measure_text_width);
    widths.max().unwrap_or_default()
}
