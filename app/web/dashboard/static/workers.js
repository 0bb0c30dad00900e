// The workers that report themselves, with what each runs and can take.

import { byId, cell, element, showRows } from "./dom.js";

/** Shows the workers of a beat; without any, the section is hidden. */
export function showWorkers(workers) {
  byId("workers-section").hidden = !workers.length;
  showRows(byId("workers"), workers, row);
}

function row(worker) {
  const jobs = worker.slots === null ? `${worker.active}` : `${worker.active} of ${worker.slots}`;
  return element(
    "tr",
    { role: "row" },
    cell("Worker", worker.id.slice(0, 8), element("small", {}, worker.agents.join(", "))),
    cell("Deployment", worker.deployment || "–", element("small", {}, worker.version)),
    cell("State", worker.state),
    cell("Jobs", jobs),
    cell("Load", worker.load.toFixed(2)),
  );
}
