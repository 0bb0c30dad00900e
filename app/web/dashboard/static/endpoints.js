// The endpoints that events are sent to, with how each fares.

import { byId, cell, element, moment, showRows, timeOfDay } from "./dom.js";

const STATES = { delivering: "Delivering", failing: "Failing", disabled: "Disabled (410)" };

/** Shows the endpoints of a beat; without any, the section is hidden. */
export function showEndpoints(endpoints) {
  byId("endpoints-section").hidden = !endpoints.length;
  showRows(byId("endpoints"), endpoints, row);
}

function row(endpoint) {
  const isFailing = endpoint.failingSince !== null;
  const trouble = isFailing ? `${endpoint.lastError} since ${moment(endpoint.failingSince)}` : null;
  const since = endpoint.waitingSince === null ? null : `since ${moment(endpoint.waitingSince)}`;
  const givenUp = endpoint.givenUp ? `${endpoint.givenUp} given up` : null;
  return element(
    "tr",
    { role: "row" },
    cell("Endpoint", endpoint.name),
    cell("State", STATES[endpoint.state] ?? endpoint.state, small(trouble)),
    cell("Delivered up to", `${endpoint.done}`, small(givenUp)),
    cell("Waiting", `${endpoint.waiting}`, small(since)),
    cell("Next try", endpoint.nextTryAt === null ? "–" : timeOfDay(endpoint.nextTryAt)),
  );
}

function small(text) {
  return text === null ? null : element("small", {}, text);
}
