//! A report as one page that needs nothing else: no network, no other file.
//!
//! Lives here: its structure, and the pictures of machines in it. May not
//! live here: how a row came about (`plan`), looks (`page.css`), and what
//! happens on it (`page.js`). Without scripts all of it can be read.

use core::fmt::Write as _;

use super::report::{Row, VIOLATED, escape, grouped, summary};
use super::trace::Line;
use crate::fsm::table::Table;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page: verdicts, machines by name, and each run that was found.
///
/// The same rows make the same bytes.
pub fn page(rows: &[Row], machines: &[(String, Table)]) -> String {
    let mut out = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>qubes-fsm check</title>\n",
    );
    let _ = writeln!(out, "<style>\n{STYLE}</style>\n</head>\n<body>");
    out.push_str("<header>\n<h1>qubes-fsm check</h1>\n");
    let _ =
        writeln!(out, "<p id=\"summary\">{}</p>", escape(summary(rows).trim()));
    out.push_str(
        "<nav><a href=\"#verdicts\">Verdicts</a>\
         <a href=\"#machines\">Machines</a><a href=\"#runs\">Runs</a></nav>\n\
         </header>\n<main>\n",
    );
    verdicts(&mut out, rows);
    out.push_str("<section id=\"machines\">\n<h2>Machines</h2>\n");
    out.push_str("<div class=\"pictures\">\n");
    for (name, table) in machines {
        machine(&mut out, name, table);
    }
    out.push_str("</div>\n</section>\n<section id=\"runs\">\n<h2>Runs</h2>\n");
    out.push_str(
        "<p class=\"soft\">Each is as short as any that shows the same. \
         <kbd>\u{2190}</kbd> <kbd>\u{2192}</kbd> <kbd>Home</kbd> \
         <kbd>End</kbd> walk through the one that was chosen last.</p>\n",
    );
    for (number, row) in rows.iter().enumerate() {
        if let Some(lines) = &row.trace {
            run(&mut out, number, row, lines);
        }
    }
    let _ = writeln!(
        out,
        "</section>\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>"
    );
    out
}

fn verdicts(out: &mut String, rows: &[Row]) {
    out.push_str(
        "<section id=\"verdicts\">\n<h2>Verdicts</h2>\n\
         <p class=\"soft\">What was history, or is done wrong on purpose, is \
         expected to be violated; what is shipped must hold.</p>\n\
         <div class=\"filters\">\
         <button data-kind=\"all\" aria-pressed=\"true\">all</button>\
         <button data-kind=\"holds\" aria-pressed=\"false\">holds</button>\
         <button data-kind=\"violated\" aria-pressed=\"false\">violated\
         </button><button data-kind=\"unexpected\" aria-pressed=\"false\">\
         unexpected</button>\
         <input id=\"word\" type=\"search\" placeholder=\"model, property\" \
         aria-label=\"only rows with\"></div>\n\
         <div class=\"wide\"><table>\n<thead><tr><th>model</th><th>bounds</th>\
         <th>engine</th><th class=\"n\">states</th><th class=\"n\">edges</th>\
         <th class=\"n\">depth</th><th class=\"n\">seconds</th>\
         <th>coverage</th><th>property</th><th>verdict</th></tr></thead>\n\
         <tbody>\n",
    );
    let count = |n: Option<usize>| n.map_or("-".to_owned(), grouped);
    for (number, row) in rows.iter().enumerate() {
        let states = match row.executions {
            Some(runs) => {
                let runs = usize::try_from(runs).unwrap_or(usize::MAX);
                format!("{} runs", grouped(runs))
            }
            None => count(row.states),
        };
        let unexpected = if row.expected { "" } else { " unexpected" };
        let verdict = escape(&row.verdict_text());
        let verdict = if row.trace.is_some() {
            format!("<a href=\"#run-{number}\">{verdict}</a>")
        } else {
            verdict
        };
        let _ = writeln!(
            out,
            "<tr class=\"{}{unexpected}\"><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"n\">{states}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{:.2}</td><td>{}</td>\
             <td>{}</td><td class=\"verdict {}\">{verdict}</td></tr>",
            escape(&row.verdict),
            escape(&row.title()),
            escape(&row.bounds),
            escape(&row.engine),
            count(row.edges),
            count(row.depth),
            row.seconds,
            escape(&row.coverage_text()),
            escape(&row.property),
            escape(&row.verdict),
        );
    }
    out.push_str("</tbody>\n</table></div>\n</section>\n");
}

/// Pixels of a state in the picture, and of the room around it.
const ROW: usize = 30;
const BOX: usize = 22;
const LEFT: usize = 130;
const RIGHT: usize = 190;
/// One character of the labels.
const CHARACTER: usize = 8;

/// All states below each other, in the order of a walk; arrows down are on
/// the right, arrows up on the left.
fn machine(out: &mut String, name: &str, table: &Table) {
    let states = table.states();
    let arrows = table.arrows();
    let (count, edges) = (states.len(), table.rows.len());
    let name = escape(name);
    let tip = format!("tip-{}", name.replace(' ', "-"));
    let _ = writeln!(
        out,
        "<details open><summary><h3 style=\"display:inline\">{name}</h3> \
         <span class=\"soft\">{count} states, {edges} edges</span></summary>\n\
         <figure class=\"wide\">"
    );
    let longest = states.iter().map(|state| state.chars().count()).max();
    let width = longest.unwrap_or(0) * CHARACTER + 20;
    let (all, high) = (LEFT + width + RIGHT, count * ROW + 10);
    let _ = writeln!(
        out,
        "<svg class=\"machine\" role=\"img\" aria-label=\"{name}\" \
         width=\"{all}\" height=\"{high}\" viewBox=\"0 0 {all} {high}\">\n\
         <defs><marker id=\"{tip}\" viewBox=\"0 0 8 8\" refX=\"7\" \
         refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0 8 4 0 8z\"/></marker></defs>"
    );
    let place = |state: &str| states.iter().position(|s| s == state);
    for ((from, to), labels) in &arrows {
        let (Some(start), Some(end)) = (place(from), place(to)) else {
            continue;
        };
        let middle = |at: usize| at * ROW + 5 + BOX / 2;
        let span = start.abs_diff(end);
        let down = end > start;
        let (side, room, class) = match down {
            true => (LEFT + width, RIGHT, ""),
            false => (LEFT, LEFT, " class=\"back\""),
        };
        // Longer ones go farther out.
        let out_by = (18 + span * 9).min(room.saturating_sub(6));
        let far = match down {
            true => side + out_by,
            false => side.saturating_sub(out_by),
        };
        // A little apart, so that what comes and what goes can be told.
        let (y1, y2) = (middle(start) + 4, middle(end).saturating_sub(4));
        let _ = writeln!(
            out,
            "<path{class} data-from=\"{start}\" data-to=\"{end}\" \
             marker-end=\"url(#{tip})\" \
             d=\"M{side} {y1}C{far} {y1} {far} {y2} {side} {y2}\">\
             <title>{} \u{2192} {}: {}</title></path>",
            escape(from),
            escape(to),
            escape(&labels.join(", ")),
        );
    }
    for (number, state) in states.iter().enumerate() {
        let kind = match (number, table.ends.contains(state)) {
            (0, _) => " start",
            (_, true) => " end",
            (_, false) => "",
        };
        let y = number * ROW + 5;
        let _ = writeln!(
            out,
            "<g class=\"state{kind}\" tabindex=\"0\" \
             data-state=\"{number}\"><rect x=\"{LEFT}\" y=\"{y}\" \
             width=\"{width}\" height=\"{BOX}\" rx=\"5\"/>\
             <text x=\"{}\" y=\"{}\">{}</text></g>",
            LEFT + 10,
            y + 15,
            escape(state)
        );
    }
    out.push_str("</svg>\n<figcaption></figcaption></figure>\n<details><summary>all edges</summary>\n");
    out.push_str(
        "<div class=\"wide\"><table><thead><tr><th>state</th><th>effect</th>\
         <th>answer</th><th>next</th></tr></thead>\n<tbody>\n",
    );
    for row in &table.rows {
        let cells = [&row.from, &row.effect, &row.event, &row.to];
        let cells = cells.map(|cell| escape(cell));
        let _ = writeln!(out, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
    }
    out.push_str("</tbody></table></div>\n</details>\n</details>\n");
}

fn run(out: &mut String, number: usize, row: &Row, lines: &[Line]) {
    let names = row.column_names();
    let _ = writeln!(
        out,
        "<article class=\"run\" id=\"run-{number}\" tabindex=\"-1\">\n\
         <h3>{}: <span class=\"{}\">{}, {}</span></h3>\n\
         <p class=\"soft\">{}, {}{}</p>\n<div class=\"controls\">\
         <button data-key=\"Home\" aria-label=\"first step\">\u{21e4}\
         </button><button data-key=\"ArrowLeft\" aria-label=\"step back\">\
         \u{2190}</button><button data-key=\"ArrowRight\" \
         aria-label=\"next step\">\u{2192}</button><button data-key=\"End\" \
         aria-label=\"last step\">\u{21e5}</button>\
         <span class=\"count soft\" aria-live=\"polite\"></span></div>\n\
         <div class=\"steps\">\n\
         <ol class=\"lanes\" style=\"--lanes:{}\">",
        escape(&row.title()),
        row.verdict,
        escape(&row.property),
        escape(&row.verdict_text()),
        escape(&row.bounds),
        escape(&row.engine),
        row.note
            .as_ref()
            .map_or(String::new(), |note| { format!("; {}", escape(note)) }),
        names.len()
    );
    out.push_str("<li class=\"head\"><span></span>");
    for (column, name) in names.iter().enumerate() {
        let _ = write!(
            out,
            "<span class=\"call p{0}\" style=\"--column:{1}\">{2}</span>",
            column + 1,
            column + 2,
            escape(name)
        );
    }
    out.push_str("</li>\n");
    for line in lines {
        let kind = match (line.step, line.text.starts_with("***")) {
            (None, true) if row.verdict == VIOLATED => " class=\"loss\"",
            (None, _) => " class=\"note\"",
            (Some(_), _) => "",
        };
        let step = line.step.map_or(String::new(), |step| step.to_string());
        let who = line.process.checked_sub(1).and_then(|at| names.get(at));
        let _ = write!(
            out,
            "<li{kind}><span class=\"number\">{step}</span>\
             <span class=\"call p{}\" style=\"--column:{}\">\
             <span class=\"who\">{}: </span>{}</span>",
            line.process,
            line.process + 1,
            escape(who.map_or("", String::as_str)),
            escape(&line.text)
        );
        if !line.state.is_empty() {
            let facts: Vec<_> =
                line.state.iter().map(|fact| escape(fact)).collect();
            let _ = write!(
                out,
                "<ul class=\"state\"><li>{}</li></ul>",
                facts.join("</li><li>")
            );
        }
        out.push_str("</li>\n");
    }
    out.push_str(
        "</ol>\n<aside class=\"now\"><strong>After this step</strong>\
         <ul></ul></aside>\n</div>\n</article>\n",
    );
}
