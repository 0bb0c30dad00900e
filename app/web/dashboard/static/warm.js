// The pools of warm agents, with how many of each wait.

import { byId, cell, element, showRows } from "./dom.js";

/** Shows the pools of a beat; without any, the section is hidden. */
export function showWarm(pools) {
  byId("warm-section").hidden = !pools.length;
  showRows(byId("warm"), pools, row);
}

function row(pool) {
  return element(
    "tr",
    { role: "row" },
    cell("Agent", pool.agent),
    cell("Waiting", `${pool.waiting} of ${pool.wanted}`),
    cell("Starting", `${pool.coming}`),
    cell("In rooms", `${pool.claimed}`),
  );
}
