//! Tables for people: no borders, aligned, cut to the terminal's width.

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Row, Table, presets};

use crate::text::{cut, plain};

const GAP: u16 = 2;
/// Columns that an elastic one keeps before it is left out.
const ELASTIC: u16 = 10;

/// Columns in the order of their titles. Those that are named `elastic` give way when the terminal is narrow.
pub struct Listing {
    table: Table,
    titles: Vec<&'static str>,
    elastic: Vec<&'static str>,
}

impl Listing {
    pub fn new(titles: &[&'static str], elastic: &[&'static str]) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_truncation_indicator("…");
        table.set_header(row(titles.iter().map(|title| (*title).to_owned())));
        Self {
            table,
            titles: titles.to_vec(),
            elastic: elastic.to_vec(),
        }
    }

    /// Adds a row; foreign text in it is made harmless here, and an empty cell shows that it is one.
    pub fn push<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let last = self.titles.len().saturating_sub(1);
        self.table
            .add_row(row(cells.into_iter().enumerate().map(|(index, cell)| {
                match plain(cell.as_ref()).into_owned() {
                    text if text.is_empty() && index < last => "-".to_owned(),
                    text => text,
                }
            })));
    }

    /// The lines of the table; `width` is the terminal's, `None` when it goes elsewhere and nothing is cut.
    pub fn lines(mut self, width: Option<u16>) -> Vec<String> {
        let widths = self.table.column_max_content_widths();
        let shown = self.fitting(&widths, width);
        let last = shown.saturating_sub(1);
        let mut needed = 0;
        for (index, column) in self.table.column_iter_mut().enumerate() {
            if index > last {
                column.set_constraint(ColumnConstraint::Hidden);
                continue;
            }
            let gap = if index == last { 0 } else { GAP };
            column.set_padding((0, gap));
            needed += usize::from(widths.get(index).copied().unwrap_or(0)) + usize::from(gap);
            if !self.titles.get(index).is_some_and(|title| self.elastic.contains(title)) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        match width {
            Some(width) if needed > usize::from(width) => {
                self.table
                    .set_content_arrangement(ContentArrangement::Dynamic)
                    .set_width(width);
            }
            _ => {
                self.table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        self.table.lines().map(|line| cut(line.trim_end(), width)).collect()
    }

    /// How many columns, from the left, fit even with the elastic ones at their least.
    fn fitting(&self, widths: &[u16], width: Option<u16>) -> usize {
        let Some(width) = width else { return widths.len() };
        let mut taken = 0;
        let fits = self.titles.iter().zip(widths).take_while(|(title, content)| {
            let least = if self.elastic.contains(title) {
                ELASTIC.min(**content)
            } else {
                **content
            };
            taken += least;
            let fits = taken <= width;
            taken += GAP;
            fits
        });
        fits.count().max(1)
    }
}

fn row(cells: impl Iterator<Item = String>) -> Row {
    let mut row = Row::from(cells.map(Cell::new).collect::<Vec<_>>());
    row.max_height(1);
    row
}
