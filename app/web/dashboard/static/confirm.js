// The question before an agent is ended: in which room, and who is there.

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
    // While the service is asked its answer is awaited.
    this.#dialog.addEventListener("cancel", (event) => {
      if (this.#busy) event.preventDefault();
    });
  }

  ask(agent) {
    this.#agent = agent;
    setText(byId("confirm-problem"), "");
    this.#setBusy(false);
    this.#say(agent);
    this.#dialog.showModal();
    byId("confirm-cancel").focus();
  }

  /** People come and go while the question stands. */
  changed(agents) {
    const agent = this.#dialog.open && agents.find((one) => one.id === this.#agent.id);
    if (agent) this.#say(agent);
  }

  #say(agent) {
    setText(byId("confirm-title"), `End “${agent.agent}” in ${agent.room}?`);
    setText(
      byId("confirm-text"),
      agent.people
        ? `${people(agent.people)} ${agent.people === 1 ? "is" : "are"} in the room now, and will be left without an agent.`
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
