import { problemOf } from "./problems.js";
import type { RoomLink } from "./room-link.js";
import type { Microphone } from "./state.js";

/** Turn the microphone on or off, and show what becomes of it; never rejects. */
export async function switchMicrophone(
  link: RoomLink,
  on: boolean,
  show: (microphone: Microphone) => void,
): Promise<void> {
  if (on) show("starting");
  try {
    await link.setMicrophone(on);
    show(on ? "on" : "off");
  } catch (error) {
    show(problemOf(error).code === "microphone-refused" ? "refused" : "missing");
  }
}
