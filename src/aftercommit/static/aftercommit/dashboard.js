/* The dashboard works without this script. With it, pages refresh themselves, and lists of jobs
   choose many at once. */
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const seconds = Number(document.body.dataset.refresh || 0);
  const button = document.querySelector("button.live");
  const isChoosing = () => all("[data-live] input[type=checkbox]:checked").length > 0;
  const isUsed = (part) => {
    const focused = document.activeElement;
    const selection = String(window.getSelection() || "");
    return (part.contains(focused) && focused !== part) || selection !== "";
  };

  let isLive = seconds > 0;
  try {
    isLive = isLive && window.localStorage.getItem("aftercommit-live") !== "no";
  } catch { /* storage is switched off */ }

  const refresh = async () => {
    if (!isLive || document.hidden || isChoosing()) return;
    const answer = await fetch(window.location.href);
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of all("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other && !isUsed(part) && !isChoosing() && part.innerHTML !== other.innerHTML) {
        const places = all(".scroll", part).map((one) => [one.scrollLeft, one.scrollTop]);
        part.replaceChildren(...other.childNodes);
        all(".scroll", part).forEach((one, number) => {
          if (places[number]) [one.scrollLeft, one.scrollTop] = places[number];
        });
        begin(part);
      }
    }
  };
  const later = () => window.setTimeout(
    () => refresh().catch(() => {}).finally(later), seconds * 1000,
  );
  if (seconds > 0 && button) {
    const show = () => button.setAttribute("aria-pressed", String(isLive));
    button.hidden = false;
    show();
    button.addEventListener("click", () => {
      isLive = !isLive;
      try {
        window.localStorage.setItem("aftercommit-live", isLive ? "yes" : "no");
      } catch { /* it is forgotten with the page */ }
      show();
    });
    later();
  }

  const choose = () => {
    const boxes = all("[data-bulk] input[name=id]");
    const chosen = boxes.filter((one) => one.checked);
    const whole = document.querySelector("[data-all]");
    if (whole) {
      whole.checked = boxes.length > 0 && chosen.length === boxes.length;
      whole.indeterminate = chosen.length > 0 && chosen.length < boxes.length;
    }
    const said = document.querySelector("[data-chosen]");
    if (said) said.textContent = chosen.length ? String(chosen.length) : "";
  };
  function begin(root) {
    for (const whole of all("[data-all]", root)) {
      whole.hidden = false;
      whole.addEventListener("change", () => {
        all("[data-bulk] input[name=id]").forEach((one) => { one.checked = whole.checked; });
        choose();
      });
    }
    for (const one of all("[data-bulk] input[name=id]", root)) {
      one.addEventListener("change", choose);
    }
  }
  begin(document);

  // On a phone the names of the pages are wider than the screen: show the present one.
  const tab = document.querySelector(".tabs [aria-current]");
  if (tab) tab.closest("ul").scrollLeft = tab.offsetLeft - tab.closest("ul").offsetLeft;

  // The next step of an action for many jobs follows by itself.
  const next = document.querySelector("form[data-go-on]");
  if (next) {
    const step = window.setTimeout(() => next.requestSubmit(), 300);
    next.addEventListener("submit", () => window.clearTimeout(step));  // it is stopped, say
  }
})();
