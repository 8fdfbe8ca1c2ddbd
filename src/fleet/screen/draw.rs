//! Draws a fleet into a frame of any size. Colours only repeat the text.

use super::view::{BrokerLink, FleetView};
use crate::fleet::fleet_table;
use crate::fleet::fleet_table::{Attention, DeviceRow};
use crate::fleet::jobs::jobs;
use ratatui::Frame;
use ratatui::layout::HorizontalAlignment::{self, Left, Right};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, HighlightSpacing, Paragraph, Row, Table, TableState, Wrap};
use std::time::Duration;

/// Width of the bar beside the percents. A shorter bar does not distinguish a half from a third.
const BAR_MIN: usize = 5;
const BAR_MAX: usize = 20;
/// Longest shown name of a device in the table.
const NAME_MAX: usize = 20;
/// Maximum number of jobs in shards that are shown.
const JOBS_MAX: usize = 3;
const KEYS: &str = " q quit   up/down select   enter details";

/// A column of the table.
struct Column {
    head: &'static str,
    /// Characters, without the bar; longer names of devices widen theirs.
    width: usize,
    alignment: HorizontalAlignment,
    /// When not all columns fit, the one with the lowest rank is left out; those with rank [`KEPT`] stay.
    rank: u8,
    /// Text of a row, given the width of the bar.
    cell: fn(&DeviceRow, usize) -> Span<'static>,
}

/// Columns up to this rank are left out before the bar is.
const RANK_BELOW_BAR: u8 = 4;
const KEPT: u8 = 10;
const DEVICE: &str = "DEVICE";
const PROGRESS: &str = "DONE";

const fn column(
    head: &'static str,
    width: usize,
    alignment: HorizontalAlignment,
    rank: u8,
    cell: fn(&DeviceRow, usize) -> Span<'static>,
) -> Column {
    Column {
        head,
        width,
        alignment,
        rank,
        cell,
    }
}

/// The columns from left to right.
static COLUMNS: [Column; 11] = [
    column("", 2, Left, KEPT, |row, _| mark(row.attention)),
    column(DEVICE, 6, Left, KEPT, |row, _| shortened(&row.id).into()),
    column("STATUS", 7, Left, 9, |row, _| {
        Span::styled(row.status, status_style(row))
    }),
    column("STATE", 10, Left, 8, |row, _| {
        Span::styled(row.state, state_style(row.state))
    }),
    column(PROGRESS, 4, Right, 7, |row, bar| progress(row, bar).into()),
    column("CLIPS", 11, Right, 3, |row, _| row.done.clone().into()),
    column("CLIPS/MIN", 9, Right, 4, |row, _| {
        row.clips_per_min.clone().into()
    }),
    column("ETA", 6, Right, 5, |row, _| row.eta.clone().into()),
    column("TEMP", 5, Right, 2, |row, _| row.temperature.clone().into()),
    column("OUTBOX", 6, Right, 1, |row, _| row.outbox.clone().into()),
    column("AGE", 4, Right, 6, |row, _| row.age.clone().into()),
];

/// Draws the whole view.
pub fn draw(frame: &mut Frame, view: &FleetView, now: Duration) {
    let now = view.clock(now);
    let area = frame.area();
    let first = first_line(view);
    // The reason why there is no connection may need more than a line.
    let more_lines = first.width() / usize::from(area.width.max(1));
    let first_height = match more_lines {
        1 if area.height >= 8 => 2,
        2.. if area.height >= 8 => 3,
        _ => 1,
    };
    let second_height = u16::from(area.height >= 5);
    let footer_height = u16::from(area.height >= 8);
    let jobs = jobs(&view.fleet);
    let jobs_height = match area.height {
        12.. => u16::try_from(jobs.len().min(JOBS_MAX)).unwrap_or(0),
        _ => 0,
    };
    let room = area
        .height
        .saturating_sub(first_height + second_height + jobs_height + footer_height);
    let devices = u16::try_from(view.fleet.devices().len()).unwrap_or(u16::MAX);
    let table_max = if view.has_details {
        (room / 4).max(4)
    } else {
        room - room / 3
    };
    let [first_area, second, jobs_area, table, pane, footer] = Layout::vertical([
        Constraint::Length(first_height),
        Constraint::Length(second_height),
        Constraint::Length(jobs_height),
        Constraint::Length(devices.max(1).saturating_add(1).min(table_max)),
        Constraint::Min(0),
        Constraint::Length(footer_height),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(first).wrap(Wrap { trim: false }), first_area);
    frame.render_widget(second_line(view, now), second);
    let lines = jobs
        .iter()
        .map(|job| Line::from(format!(" {}", job.line())));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), jobs_area);
    if view.fleet.devices().len() == 0 {
        frame.render_widget(Line::from("   no device has published anything yet"), table);
    } else {
        draw_table(frame, table, view, now);
        draw_device(frame, pane, view, now);
    }
    frame.render_widget(Line::from(KEYS).dim(), footer);
}

/// The broker and the connection to it.
fn first_line(view: &FleetView) -> Line<'_> {
    let link = match &view.link {
        BrokerLink::Connecting => Span::from("connecting").yellow(),
        BrokerLink::Connected => Span::from("connected").green(),
        BrokerLink::Lost { reason, .. } => {
            Span::from(format!("not connected: {reason}; trying again")).red()
        }
    };
    let broker = Span::from(view.broker.as_str()).bold();
    Line::from(vec![" ".into(), broker, "  ".into(), link])
}

/// The number of devices, and which of them need a person.
fn second_line(view: &FleetView, now: Duration) -> Line<'_> {
    let fleet = &view.fleet;
    let count = fleet.devices().len();
    let plural = if count == 1 { "" } else { "s" };
    let counts = format!(" {count} device{plural}, {} online", fleet.online(now));
    let mut spans = vec![Span::from(counts)];
    for (attention, words) in [
        (Attention::Critical, "needs help"),
        (Attention::Warning, "wants a look"),
    ] {
        let is_one = |device| fleet_table::attention(device, now).0 == attention;
        let who = fleet.devices().filter(|(_, device)| is_one(device));
        let who: Vec<&str> = who.map(|(id, _)| id).collect();
        if !who.is_empty() {
            let text = format!("{words}: {}", who.join(", "));
            spans.extend(["; ".into(), Span::styled(text, attention_style(attention))]);
        }
    }
    if fleet.ignored() > 0 {
        spans.push(format!("; {}", fleet_table::ignored(fleet)).yellow());
    }
    Line::from(spans)
}

fn draw_table(frame: &mut Frame, area: Rect, view: &FleetView, now: Duration) {
    let fleet = &view.fleet;
    let longest = fleet.devices().map(|(id, _)| id.len()).max().unwrap_or(0);
    let (columns, bar) = columns(usize::from(area.width), longest);
    let selected = view.selected(now);
    // Only visible rows are built; the selected one is among them.
    let height = usize::from(area.height.saturating_sub(1));
    let skip = selected.map_or(0, |at| (at + 1).saturating_sub(height));
    let shown = fleet.devices().skip(skip).take(height);
    let rows = shown.map(|(id, device)| {
        let row = DeviceRow::of(id, device, now);
        let aligned =
            |column: &Column| Line::from((column.cell)(&row, bar)).alignment(column.alignment);
        Row::new(columns.iter().map(|(column, _)| aligned(column)))
    });
    let widths = columns
        .iter()
        .map(|(_, width)| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
    let heads = columns
        .iter()
        .map(|(column, _)| Line::from(column.head).alignment(column.alignment));
    let table = Table::new(rows, widths)
        .header(Row::new(heads).style(Style::new().add_modifier(Modifier::UNDERLINED)))
        .column_spacing(1)
        .highlight_symbol(">")
        .highlight_spacing(HighlightSpacing::Always)
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD));
    let mut state =
        TableState::default().with_selected(selected.and_then(|at| at.checked_sub(skip)));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The columns that fit with their widths, and the width of the bar; `name` is the longest name of a device.
fn columns(room: usize, name: usize) -> (Vec<(&'static Column, usize)>, usize) {
    let width = |column: &Column| match column.head {
        DEVICE => name.clamp(column.width, NAME_MAX),
        _ => column.width,
    };
    let mut kept: Vec<(&Column, usize)> = COLUMNS.iter().map(|c| (c, width(c))).collect();
    // A blank between two, and the selection's mark.
    let used = |kept: &[(&Column, usize)]| kept.iter().map(|(_, width)| width + 1).sum::<usize>();
    for rank in 1..KEPT {
        let bar = if rank <= RANK_BELOW_BAR {
            BAR_MIN + 1
        } else {
            0
        };
        if used(&kept) + bar > room {
            kept.retain(|(column, _)| column.rank != rank);
        }
    }
    let left = room.saturating_sub(used(&kept) + 1).min(BAR_MAX);
    match kept.iter_mut().find(|(column, _)| column.head == PROGRESS) {
        Some((_, width)) if left >= BAR_MIN => {
            *width += left + 1;
            (kept, left)
        }
        _ => (kept, 0),
    }
}

/// The cell of the progress: `████░░░░  42%`.
fn progress(row: &DeviceRow, bar: usize) -> String {
    let text = row.percent_text();
    match row.percent {
        Some(percent) if bar > 0 => {
            let full = bar * usize::from(percent.min(100)) / 100;
            format!("{}{} {text:>4}", "█".repeat(full), "░".repeat(bar - full))
        }
        _ => text,
    }
}

/// At most [`NAME_MAX`] characters of a device's name, which is ASCII; an ellipsis shows that it is longer.
fn shortened(id: &str) -> String {
    match id.get(..NAME_MAX - 1) {
        Some(kept) if id.len() > NAME_MAX => format!("{kept}…"),
        _ => id.to_owned(),
    }
}

/// The selected device: why it needs a person, and its faults.
fn draw_device(frame: &mut Frame, area: Rect, view: &FleetView, now: Duration) {
    let selected = view.selected(now);
    let Some((id, device)) = selected.and_then(|at| view.fleet.devices().nth(at)) else {
        return;
    };
    let (attention, why) = fleet_table::attention(device, now);
    let title = format!(" {id} {} ", attention.phrase());
    let mut lines = Vec::new();
    let details = if view.has_details {
        fleet_table::details(device)
    } else {
        Vec::new()
    };
    // The reason is not shown twice.
    if !why.is_empty() && !details.iter().any(|line| line.ends_with(&why)) {
        lines.push(Line::from(Span::styled(why, attention_style(attention))));
    }
    lines.extend(details.into_iter().map(Line::from));
    if device.faults.is_empty() {
        lines.push(Line::from("no faults received since this view began").dim());
    }
    for seen in &device.faults {
        let (what, action) = fleet_table::fault(seen);
        lines.push(Line::from(what));
        lines.push(Line::from(format!("  -> {action}")).dim());
    }
    let block = Block::new()
        .borders(Borders::TOP)
        .title(Span::styled(title, attention_style(attention).bold()));
    let pane = Paragraph::new(lines)
        .block(block)
        .wrap(Wrap { trim: false });
    frame.render_widget(pane, area);
}

fn mark(attention: Attention) -> Span<'static> {
    let text = match attention {
        Attention::None => "",
        Attention::Warning => "!",
        Attention::Critical => "!!",
    };
    Span::styled(text, attention_style(attention))
}

fn attention_style(attention: Attention) -> Style {
    match attention {
        Attention::None => Style::new(),
        Attention::Warning => Style::new().fg(Color::Yellow),
        Attention::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn status_style(row: &DeviceRow) -> Style {
    match row.status {
        "online" => Style::new().fg(Color::Green),
        "offline" | "silent" => attention_style(row.attention),
        _ => Style::new().add_modifier(Modifier::DIM),
    }
}

fn state_style(state: &str) -> Style {
    match state {
        "error" => attention_style(Attention::Critical),
        "paused" | "degraded" => attention_style(Attention::Warning),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests;
