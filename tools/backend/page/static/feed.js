// Server-sent events over fetch: EventSource cannot send the Authorization header. The parser
// follows the WHATWG standard (HTML, section 9.2.6); the connection comes back by itself.

import { Refused, SignedOut, request } from "./session.js";

const FIRST_DELAY = 500;
const LAST_DELAY = 10000;
const SILENCE = 16000; // the backend gives a sign of life every 5 seconds

// Feed with pieces of the stream; `dispatch(kind, data)` is called for each event.
export class EventParser {
  constructor(dispatch) {
    this.dispatch = dispatch;
    this.lastId = "";
    this.rest = "";
    this.reset();
  }

  reset() {
    this.kind = "";
    this.data = [];
  }

  push(text) {
    this.rest += text;
    // A carriage return at the end may be half of a line break.
    const whole = this.rest.endsWith("\r") ? this.rest.slice(0, -1) : this.rest;
    const lines = whole.split(/\r\n|\n|\r/);
    this.rest = lines.pop() + this.rest.slice(whole.length);
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.dispatch(this.kind || "message", this.data.join("\n"));
      this.reset();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.kind = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
  }
}

// One topic, until `stop`. `on(kind, data)` gets the events, `state(text)` one of connecting, open
// and waiting, `lost(error)` is called when there is no use in trying again.
export class Feed {
  constructor(topic, { on, state, lost }) {
    this.path = `/page/feed?${new URLSearchParams({ topic })}`;
    this.on = on;
    this.state = state;
    this.lost = lost;
    this.delay = FIRST_DELAY;
    this.stopped = false;
    this.parser = new EventParser((kind, data) => this.event(kind, data));
    this.run();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.watchdog);
    clearTimeout(this.retry);
    this.abort?.abort();
  }

  event(kind, data) {
    if (this.stopped) return;
    this.delay = FIRST_DELAY;
    this.on(kind, JSON.parse(data));
  }

  async run() {
    this.state("connecting");
    this.abort = new AbortController();
    try {
      await this.listen();
    } catch (error) {
      if (this.stopped) return;
      if (error instanceof SignedOut || (error instanceof Refused && error.status < 500)) {
        this.lost(error);
        return;
      }
    } finally {
      clearTimeout(this.watchdog);
    }
    if (this.stopped) return;
    this.state("waiting");
    this.retry = setTimeout(() => this.run(), this.delay * (0.75 + Math.random() / 2));
    this.delay = Math.min(2 * this.delay, LAST_DELAY);
  }

  async listen() {
    const headers = { Accept: "text/event-stream" };
    if (this.parser.lastId) headers["Last-Event-ID"] = this.parser.lastId;
    this.watch();
    const response = await request(this.path, { headers, signal: this.abort.signal });
    this.state("open");
    // What was left of a line of the former connection is no part of this one.
    this.parser.rest = "";
    this.parser.reset();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.watch();
      this.parser.push(value);
    }
  }

  watch() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.abort.abort(), SILENCE);
  }
}
