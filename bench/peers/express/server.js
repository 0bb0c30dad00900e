// The original design's server: Express and LiveKit's own SDK. Usage: node server.js PORT [DATABASE]
// Without a database, participants are kept in a Map and are lost with the process.
import express from "express";
import { WebhookReceiver } from "livekit-server-sdk";

const [port, database] = process.argv.slice(2);
const receiver = new WebhookReceiver(process.env.LIVEKIT_API_KEY, process.env.LIVEKIT_API_SECRET);
const take = database ? await storeIn(database) : keepInMemory();

const app = express();
app.post("/api/livekit/webhook", express.raw({ type: "application/webhook+json" }), async (request, response) => {
  try {
    take(await receiver.receive(request.body.toString(), request.get("Authorization")));
    response.sendStatus(200);
  } catch (error) {
    response.status(401).send(String(error));
  }
});
app.listen(Number(port), "127.0.0.1");

function keepInMemory() {
  const activity = new Map();
  return ({ event, room, participant }) => {
    const entry = activity.get(room.name) ?? { people: new Set(), lastActivityAt: 0 };
    activity.set(room.name, entry);
    if (event === "participant_joined") entry.people.add(participant.sid);
    else entry.people.delete(participant.sid);
    entry.lastActivityAt = Date.now();
  };
}

async function storeIn(file) {
  const { default: Database } = await import("better-sqlite3");
  const db = new Database(file);
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = FULL");
  db.exec(`
    CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS rooms (sid TEXT PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS participants (sid TEXT PRIMARY KEY, room_sid TEXT NOT NULL, is_in INTEGER NOT NULL);
  `);
  const addEvent = db.prepare("INSERT OR IGNORE INTO events (id) VALUES (?)");
  const addRoom = db.prepare("INSERT OR IGNORE INTO rooms (sid, name) VALUES (?, ?)");
  const addParticipant = db.prepare(
    "INSERT INTO participants (sid, room_sid, is_in) VALUES (?, ?, ?) ON CONFLICT (sid) DO UPDATE SET is_in = excluded.is_in",
  );
  return db.transaction(({ id, event, room, participant }) => {
    if (addEvent.run(id).changes === 0) return;
    addRoom.run(room.sid, room.name);
    addParticipant.run(participant.sid, room.sid, event === "participant_joined" ? 1 : 0);
  });
}
