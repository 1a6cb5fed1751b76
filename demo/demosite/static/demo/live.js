"use strict";

// Keeps a page up to date. <... data-live="/address/"> is asked again and again;
// the answer is {"rows": {list: [{key, state, cell: text}]}, "texts": {name: text}}.
// Without this script the pages still work: reload to see what is new.

const PAUSE = 700; // milliseconds

for (const live of document.querySelectorAll("[data-live]")) {
  follow(live);
}

async function follow(live) {
  const trouble = live.querySelector(".trouble");
  for (;;) {
    await new Promise((resume) => setTimeout(resume, PAUSE));
    if (document.hidden) continue;
    try {
      const answer = await fetch(live.dataset.live, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      show(live, await answer.json());
      trouble.hidden = true;
    } catch {
      trouble.hidden = false;
    }
  }
}

function show(live, { rows = {}, texts = {} }) {
  for (const body of live.querySelectorAll("[data-rows]")) {
    fill(body, rows[body.dataset.rows] ?? []);
  }
  for (const place of live.querySelectorAll("[data-text]")) {
    write(place, texts[place.dataset.text]);
  }
}

function fill(body, rows) {
  const present = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = rows.map((row) => update(present.get(row.key) ?? fresh(body), row));
  const same = wanted.length === body.rows.length && wanted.every((row, i) => row === body.rows[i]);
  if (!same) body.replaceChildren(...wanted);
}

function fresh(body) {
  const template = document.getElementById(body.dataset.template);
  return template.content.firstElementChild.cloneNode(true);
}

function update(element, row) {
  element.dataset.key = row.key;
  element.dataset.state = row.state ?? "";
  for (const cell of element.querySelectorAll("[data-cell]")) {
    write(cell, row[cell.dataset.cell]);
  }
  return element;
}

// Only what changed: a screen reader announces what is written.
function write(element, text = "") {
  if (element instanceof HTMLProgressElement) {
    element.value = Number(text);
    return;
  }
  if (element.textContent !== text) element.textContent = text;
}
