"use strict";
(() => {
  const all = (from, what) => Array.from(from.querySelectorAll(what));
  document.documentElement.classList.add("js");

  // The table of verdicts: all, or some.
  const rows = all(document, "#verdicts tbody tr");
  const word = document.querySelector("#word");
  let kind = "all";
  const filter = () => {
    const wanted = word.value.toLowerCase();
    for (const row of rows) {
      const fits = kind === "all" || row.classList.contains(kind);
      row.hidden = !fits || !row.textContent.toLowerCase().includes(wanted);
    }
  };
  word.addEventListener("input", filter);
  for (const button of all(document, ".filters button")) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      for (const other of all(document, ".filters button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      filter();
    });
  }

  // A machine: the arrows of one state.
  for (const picture of all(document, "svg.machine")) {
    const caption = picture.parentElement.querySelector("figcaption");
    const choose = (state) => {
      for (const other of all(picture, ".chosen")) {
        other.classList.remove("chosen");
      }
      const list = document.createElement("ul");
      caption.replaceChildren(list);
      if (!state) return;
      state.classList.add("chosen");
      for (const arrow of all(picture, "path[data-from]")) {
        const { from, to } = arrow.dataset;
        const it = state.dataset.state;
        arrow.classList.toggle("chosen", from === it || to === it);
        if (from !== it) continue;
        const item = document.createElement("li");
        item.textContent = arrow.textContent;
        list.append(item);
      }
    };
    for (const state of all(picture, "g.state")) {
      for (const event of ["pointerenter", "focus", "click"]) {
        state.addEventListener(event, () => choose(state));
      }
      state.addEventListener("blur", () => choose(null));
    }
  }

  // A run, step by step.
  let active = null;
  const players = all(document, ".run").map((run) => {
    const lines = all(run, ".lanes > li:not(.head)");
    const now = run.querySelector(".now");
    const count = run.querySelector(".count");
    let place = -1;
    const facts = (index) => {
      for (let at = index; at >= 0; at -= 1) {
        const list = lines[at].querySelector(".state");
        if (list) return all(list, "li").map((fact) => fact.textContent);
      }
      return [];
    };
    const show = (index) => {
      const next = Math.min(Math.max(index, 0), lines.length - 1);
      if (lines[place]) {
        lines[place].classList.remove("current");
        lines[place].removeAttribute("aria-current");
      }
      const before = new Set(place < 0 ? [] : facts(Math.max(next - 1, 0)));
      place = next;
      lines[place].classList.add("current");
      lines[place].setAttribute("aria-current", "step");
      count.textContent = `${place + 1} of ${lines.length}`;
      const list = document.createElement("ul");
      for (const fact of facts(place)) {
        const item = document.createElement("li");
        item.textContent = fact;
        if (place > 0 && !before.has(fact)) item.className = "fresh";
        list.append(item);
      }
      now.querySelector("ul").replaceWith(list);
    };
    const keys = {
      ArrowRight: () => show(place + 1), ArrowLeft: () => show(place - 1),
      ArrowDown: () => show(place + 1), ArrowUp: () => show(place - 1),
      Home: () => show(0), End: () => show(lines.length - 1),
    };
    const follow = () => lines[place].scrollIntoView({ block: "nearest" });
    run.addEventListener("keydown", (event) => {
      const key = keys[event.key];
      if (!key || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      key();
      follow();
    });
    run.addEventListener("focusin", () => { active = run; });
    lines.forEach((line, index) => {
      line.addEventListener("click", () => { show(index); run.focus(); });
    });
    for (const button of all(run, ".controls button")) {
      button.addEventListener("click", () => {
        keys[button.dataset.key]();
        follow();
      });
    }
    show(0);
    return { run, show };
  });

  // What a link leads to has the keys.
  const arrive = () => {
    const target = document.getElementById(location.hash.slice(1));
    const player = players.find(({ run }) => run === target);
    if (player && active !== target) target.focus();
  };
  window.addEventListener("hashchange", arrive);
  arrive();
})();
