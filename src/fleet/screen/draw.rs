//! Draws a fleet into a frame of any size. Colours only repeat what the text says.

use super::view::{BrokerLink, FleetView};
use crate::fleet::devices::FleetDevice;
use crate::fleet::fleet_table;
use crate::fleet::fleet_table::{Attention, DeviceRow};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{
    Block, Borders, Cell, HighlightSpacing, Paragraph, Row, Table, TableState, Wrap,
};
use std::time::Duration;

/// Of the bar beside the percents; a shorter one does not tell a half from a third.
const BAR_MIN: usize = 5;
const BAR_MAX: usize = 20;
/// Of a device's name, in the table.
const NAME_MAX: usize = 20;
const KEYS: &str = " q quit   up/down select   enter details";

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Attention,
    Device,
    Status,
    State,
    Progress,
    Done,
    Rate,
    Eta,
    Temperature,
    Outbox,
    Age,
}

use Column::{
    Age, Attention as Mark, Done, Eta, Outbox, Progress, Rate, State, Status, Temperature,
};

/// From left to right.
const ORDER: [Column; 11] = [
    Mark,
    Column::Device,
    Status,
    State,
    Progress,
    Done,
    Rate,
    Eta,
    Temperature,
    Outbox,
    Age,
];
/// Which go first where there is no room for all; the others stay.
const EXPENDABLE: [Column; 9] = [
    Outbox,
    Temperature,
    Done,
    Rate,
    Eta,
    Age,
    Progress,
    State,
    Status,
];
/// Of these, what is worth less than a bar.
const LESS_THAN_A_BAR: [Column; 4] = [Outbox, Temperature, Done, Rate];

/// Draws all.
pub fn draw(frame: &mut Frame, view: &FleetView, now: Duration) {
    let now = view.clock(now);
    let area = frame.area();
    let first = first_line(view);
    // The reason why there is no connection may need more than a line.
    let first_height = u16::try_from(first.width() / usize::from(area.width.max(1))).unwrap_or(2);
    let first_height = if area.height < 8 {
        1
    } else {
        1 + first_height.min(2)
    };
    let second_height = u16::from(area.height >= 5);
    let footer_height = u16::from(area.height >= 8);
    let room = area
        .height
        .saturating_sub(first_height + second_height + footer_height);
    let devices = u16::try_from(view.fleet.devices().len()).unwrap_or(u16::MAX);
    let table_max = if view.has_details {
        (room / 4).max(4)
    } else {
        room - room / 3
    };
    let [first_area, second, table, pane, footer] = Layout::vertical([
        Constraint::Length(first_height),
        Constraint::Length(second_height),
        Constraint::Length(devices.max(1).saturating_add(1).min(table_max)),
        Constraint::Min(0),
        Constraint::Length(footer_height),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(first).wrap(Wrap { trim: false }), first_area);
    frame.render_widget(second_line(view, now), second);
    if view.fleet.devices().len() == 0 {
        frame.render_widget(Line::from("   no device has said anything yet"), table);
    } else {
        draw_table(frame, table, view, now);
        draw_device(frame, pane, view, now);
    }
    frame.render_widget(Line::from(KEYS).dim(), footer);
}

/// Where we listen.
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

/// How many there are, and who needs a person.
fn second_line(view: &FleetView, now: Duration) -> Line<'_> {
    let fleet = &view.fleet;
    let count = fleet.devices().len();
    let plural = if count == 1 { "" } else { "s" };
    let counts = format!(" {count} device{plural}, {} online", fleet.online(now));
    let mut spans = vec![Span::from(counts)];
    let needing_attention = view.needing_attention(now);
    for (attention, words) in [
        (Attention::Critical, "needs help"),
        (Attention::Warning, "wants a look"),
    ] {
        let who = needing_attention.iter().filter(|(_, n)| *n == attention);
        let who: Vec<&str> = who.map(|(id, _)| *id).collect();
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
    let (columns, bar) = columns(usize::from(area.width), longest.clamp(6, NAME_MAX));
    let selected = view.selected(now);
    // Only the lines that can be seen are made; the selected one is among them.
    let height = usize::from(area.height.saturating_sub(1));
    let skip = selected.map_or(0, |at| (at + 1).saturating_sub(height));
    let shown = fleet.devices().skip(skip).take(height);
    let rows = shown.map(|(id, device)| row(&columns, bar, id, device, now));
    let widths = columns
        .iter()
        .map(|(_, width)| Constraint::Length(u16::try_from(*width).unwrap_or(u16::MAX)));
    let heads = columns.iter().map(|(column, _)| {
        let text = Line::from(head(*column));
        Cell::from(text.alignment(alignment(*column)))
    });
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

/// The columns that fit with their widths, and the width of the bar.
fn columns(room: usize, name: usize) -> (Vec<(Column, usize)>, usize) {
    let width = |column: Column| match column {
        Mark => 2,
        Column::Device => name,
        Progress | Age => 4,
        Temperature => 5,
        Eta | Outbox => 6,
        Status => 7,
        Rate => 9,
        State => 10,
        Done => 11,
    };
    // A blank between two, and the selection's mark.
    let taken = |kept: &[Column]| kept.iter().map(|c| width(*c) + 1).sum::<usize>();
    let mut kept = ORDER.to_vec();
    for column in EXPENDABLE {
        // Rather a bar than the first of these; rather the others than a bar.
        let bar = if LESS_THAN_A_BAR.contains(&column) {
            BAR_MIN + 1
        } else {
            0
        };
        if taken(&kept) + bar > room {
            kept.retain(|c| *c != column);
        }
    }
    let left = room.saturating_sub(taken(&kept) + 1).min(BAR_MAX);
    let bar = if left >= BAR_MIN && kept.contains(&Progress) {
        left
    } else {
        0
    };
    let columns = kept.into_iter().map(|c| {
        let more = if c == Progress && bar > 0 { bar + 1 } else { 0 };
        (c, width(c) + more)
    });
    (columns.collect(), bar)
}

fn head(column: Column) -> &'static str {
    match column {
        Mark => "",
        Column::Device => "DEVICE",
        Status => "STATUS",
        State => "STATE",
        Progress => "DONE",
        Done => "CLIPS",
        Rate => "CLIPS/MIN",
        Eta => "ETA",
        Temperature => "TEMP",
        Outbox => "OUTBOX",
        Age => "AGE",
    }
}

fn alignment(column: Column) -> Alignment {
    match column {
        Mark | Column::Device | Status | State => Alignment::Left,
        _ => Alignment::Right,
    }
}

fn row(
    columns: &[(Column, usize)],
    bar: usize,
    id: &str,
    device: &FleetDevice,
    now: Duration,
) -> Row<'static> {
    let cells = DeviceRow::of(device, now);
    let attention = fleet_table::attention(device, now).0;
    let made = columns.iter().map(|(column, width)| {
        let (text, style) = match column {
            Mark => (mark(attention).to_owned(), attention_style(attention)),
            Column::Device => (shortened(id, *width), Style::new()),
            Status => (
                cells.status.to_owned(),
                status_style(cells.status, attention),
            ),
            State => (cells.state.to_owned(), state_style(cells.state)),
            Progress => (progress(&cells, bar), Style::new()),
            Done => (cells.done.clone(), Style::new()),
            Rate => (cells.clips_per_min.clone(), Style::new()),
            Eta => (cells.eta.clone(), Style::new()),
            Temperature => (cells.temperature.clone(), Style::new()),
            Outbox => (cells.outbox.clone(), Style::new()),
            Age => (cells.age.clone(), Style::new()),
        };
        Cell::from(Line::from(Span::styled(text, style)).alignment(alignment(*column)))
    });
    Row::new(made.collect::<Vec<_>>())
}

/// `████░░░░  42%`.
fn progress(cells: &DeviceRow, bar: usize) -> String {
    let text = cells.percent_text();
    match cells.percent {
        Some(percent) if bar > 0 => {
            let full = bar * usize::from(percent.min(100)) / 100;
            format!("{}{} {text:>4}", "█".repeat(full), "░".repeat(bar - full))
        }
        _ => text,
    }
}

/// At most `width` characters, the last a sign that there are more.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(std::iter::once('…')).collect()
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
        lines.push(Line::from("no faults heard since this view began").dim());
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

fn mark(attention: Attention) -> &'static str {
    match attention {
        Attention::None => "",
        Attention::Warning => "!",
        Attention::Critical => "!!",
    }
}

fn attention_style(attention: Attention) -> Style {
    match attention {
        Attention::None => Style::new(),
        Attention::Warning => Style::new().fg(Color::Yellow),
        Attention::Critical => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn status_style(status: &str, attention: Attention) -> Style {
    match status {
        "online" => Style::new().fg(Color::Green),
        "offline" | "silent" => attention_style(attention),
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
