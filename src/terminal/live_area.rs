//! The lines at the bottom of the terminal that are drawn again and again: a status line or a table.
//!
//! If a window becomes narrower, almost all terminals break the lines that are already on the screen into several
//! rows. The next drawing erases these rows too. Each drawing is written in one piece, so that lines of the log never
//! mix with the area.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use console::{measure_text_width, truncate_str};

use super::output_queue::OutputQueue;

/// In a narrower window, the lines are drawn as if it had this width, in cells.
const MIN_WIDTH: usize = 2;

/// The size of a window in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// The area; cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveArea(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    output: OutputQueue,
    lines: Vec<String>,
    /// The width of each line on the screen, in cells.
    drawn_widths: Vec<usize>,
    /// The size of the window at the last drawing; `None` if nothing is drawn.
    size_at_last_drawing: Option<Size>,
}

impl LiveArea {
    pub fn new(output: OutputQueue) -> Self {
        Self(Arc::new(Mutex::new(State {
            output,
            lines: Vec::new(),
            drawn_widths: Vec::new(),
            size_at_last_drawing: None,
        })))
    }

    /// Replaces the lines. Draws nothing if nothing has changed, or if the terminal does not accept output.
    pub fn set(&self, lines: Vec<String>, size: Size) {
        let mut state = self.state();
        if state.lines == lines && state.size_at_last_drawing == Some(size)
            || state.output.is_stuck()
        {
            return;
        }
        let mut output = state.erase(size);
        state.lines = lines;
        state.draw(size, &mut output);
        state.output.write(output.as_bytes());
    }

    /// Writes bytes above the lines. The bytes must end with a newline.
    pub fn print_above(&self, bytes: &[u8], size: Size) {
        let mut state = self.state();
        let mut output = state.erase(size).into_bytes();
        output.extend_from_slice(bytes);
        if !state.output.is_stuck() {
            let mut drawing = String::new();
            state.draw(size, &mut drawing);
            output.extend_from_slice(drawing.as_bytes());
        }
        state.output.write(&output);
    }

    /// Removes the lines.
    pub fn clear(&self, size: Size) {
        let mut state = self.state();
        state.lines.clear();
        let output = state.erase(size);
        if !output.is_empty() {
            state.output.write(output.as_bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The escape sequence that erases the drawn lines in a window of this size.
    fn erase(&mut self, size: Size) -> String {
        self.size_at_last_drawing = None;
        if self.drawn_widths.is_empty() {
            return String::new();
        }
        let width = size.width.max(1);
        let rows = self.drawn_widths.drain(..);
        let rows: usize = rows.map(|cells| cells.div_ceil(width).max(1)).sum();
        // The cursor is in the last row; rows above the window cannot be reached.
        let up = (rows - 1).min(size.height.saturating_sub(1));
        let up = if up > 0 {
            format!("\x1b[{up}A")
        } else {
            String::new()
        };
        format!("\r{up}\x1b[J")
    }

    /// Draws the lines. Each one is cut to one row, whose last column stays free: otherwise some terminals would move
    /// the cursor to the next row.
    fn draw(&mut self, size: Size, output: &mut String) {
        let max_width = size.width.max(MIN_WIDTH) - 1;
        for (number, line) in self.lines.iter().enumerate() {
            if number > 0 {
                output.push_str("\r\n");
            }
            let line = truncate_str(line, max_width, "…");
            self.drawn_widths.push(measure_text_width(&line));
            output.push_str(&line);
        }
        self.size_at_last_drawing = Some(size);
    }
}
