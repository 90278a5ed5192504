// Keeps a table up to date: the server sends the rows as it would write them into the page.
(() => {
  "use strict";
  const table = document.getElementById("live");
  const count = document.getElementById("count");
  const pause = document.getElementById("pause");
  const ended = document.getElementById("ended");
  if (!table || !window.EventSource) return;

  // Cells that say the same stay as they are, and so does what is focused or selected in them.
  const mergeRow = (mine, fresh) => {
    for (const [index, cell] of [...fresh.cells].entries()) {
      const old = mine.cells[index];
      if (!old) mine.append(cell.cloneNode(true));
      else if (old.innerHTML !== cell.innerHTML) old.innerHTML = cell.innerHTML;
    }
  };
  const merge = (body, fresh) => {
    const focused = document.activeElement;
    const known = new Map([...body.rows].map((row) => [row.dataset.row, row]));
    let place = body.firstElementChild;
    for (const row of [...fresh.rows]) {
      const mine = known.get(row.dataset.row);
      if (mine) {
        known.delete(row.dataset.row);
        mergeRow(mine, row);
      }
      const next = mine || row;
      if (next === place) place = place.nextElementSibling;
      else body.insertBefore(next, place);
    }
    for (const row of known.values()) row.remove();
    if (body.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
  };

  let source = null;
  const stop = () => {
    if (source) source.close();
    source = null;
  };
  const start = () => {
    source = new EventSource(table.dataset.live);
    source.addEventListener("count", (event) => {
      if (count.textContent !== event.data) count.textContent = event.data;
    });
    source.addEventListener("rows", (event) => {
      const parsed = document.createElement("template");
      parsed.innerHTML = event.data;
      const body = parsed.content.querySelector("tbody");
      const foot = parsed.content.querySelector("tfoot");
      if (!body || !foot) return;
      merge(table.tBodies[0], body);
      mergeRow(table.tFoot.rows[0], foot.rows[0]);
    });
    // A connection that was lost is made again by the browser; one that was refused is not.
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        pause.hidden = true;
        ended.hidden = false;
      }
    };
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (source) stop();
    else start();
    pause.textContent = source ? pause.dataset.pause : pause.dataset.resume;
  });
  // Whoever does not look at the page needs no rows.
  document.addEventListener("visibilitychange", () => {
    const isPaused = pause.textContent === pause.dataset.resume;
    if (document.hidden) stop();
    else if (!source && !isPaused && ended.hidden) start();
  });
  start();
})();
