// The confirmation dialog before an agent is ended.

import { byId, people, setText } from "./dom.js";
import { endAgent } from "./service.js";

export class Confirm {
  #dialog = byId("confirm");
  #agent = null;
  #busy = false;

  /** `on` has: ended(message), failed(problem). */
  constructor(on) {
    this.on = on;
    byId("confirm-cancel").addEventListener("click", () => this.#dialog.close());
    byId("confirm-end").addEventListener("click", () => this.#end());
    // The dialog stays open until the service has answered.
    this.#dialog.addEventListener("cancel", (event) => {
      if (this.#busy) event.preventDefault();
    });
  }

  ask(agent) {
    this.#agent = agent;
    setText(byId("confirm-problem"), "");
    this.#setBusy(false);
    this.#showAgent(agent);
    this.#dialog.showModal();
    byId("confirm-cancel").focus();
  }

  /** People may join and leave while the dialog is open. */
  changed(agents) {
    const agent = this.#dialog.open && agents.find((one) => one.id === this.#agent.id);
    if (agent) this.#showAgent(agent);
  }

  #showAgent(agent) {
    setText(byId("confirm-title"), `End “${agent.agent}” in ${agent.room}?`);
    setText(
      byId("confirm-text"),
      agent.people
        ? `${people(agent.people)} ${agent.people === 1 ? "is" : "are"} in the room now and will have no agent.`
        : "Nobody is in the room.",
    );
  }

  async #end() {
    this.#setBusy(true);
    setText(byId("confirm-problem"), "");
    try {
      const { message } = await endAgent(this.#agent.room, this.#agent.agent);
      this.#dialog.close();
      this.on.ended(`${this.#agent.room}: ${message}`);
    } catch (problem) {
      if (problem.status === 401) this.on.failed(problem);
      else setText(byId("confirm-problem"), problem.message);
    } finally {
      this.#setBusy(false);
    }
  }

  #setBusy(busy) {
    this.#busy = busy;
    byId("confirm-end").disabled = busy;
    byId("confirm-cancel").disabled = busy;
    setText(byId("confirm-end"), busy ? "Ending…" : "End agent");
  }
}
