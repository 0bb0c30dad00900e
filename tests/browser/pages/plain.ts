/** A frontend that knows livekit-client and nothing of ours; it names neither room nor identity. */
import { Room, RoomEvent } from "livekit-client";
import { agentName, tokenSource } from "./source";

const element = (id: string): HTMLElement => document.getElementById(id)!;
const room = new Room();

room
  .on(RoomEvent.ParticipantConnected, showAgent)
  .on(RoomEvent.ParticipantAttributesChanged, showAgent)
  .on(RoomEvent.Connected, showAgent)
  .on(RoomEvent.Disconnected, (reason) => (element("error").textContent = `disconnected ${reason}`));

room.registerTextStreamHandler("lk.transcription", async (reader) => {
  const text = await reader.readAll();
  const answer = document.createElement("li");
  answer.textContent = text;
  element("answers").append(answer);
});

function showAgent(): void {
  const agent = [...room.remoteParticipants.values()].find((one) => one.isAgent);
  element("agent").textContent = agent?.attributes["lk.agent.state"] ?? "";
}

async function start(): Promise<void> {
  const { serverUrl, participantToken } = await tokenSource.fetch({ agentName });
  await room.connect(serverUrl, participantToken);
  element("identity").textContent = room.localParticipant.identity;
  element("room").textContent = room.name;
}

element("start").addEventListener("click", () => {
  start().catch((error: unknown) => (element("error").textContent = String(error)));
});
element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  void room.localParticipant.sendText((element("message") as HTMLInputElement).value, { topic: "lk.chat" });
});
