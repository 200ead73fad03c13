// Reading data for a view: one request at a time, a late answer never overwrites a newer one.

// Returns `read(...)`; each call gives up the one before it. `done` gets the data.
export function reader(get, done, failed) {
  let abort = null;
  const read = async (...wanted) => {
    abort?.abort();
    const own = abort = new AbortController();
    try {
      const data = await get(own.signal, ...wanted);
      if (own === abort) done(data);
    } catch (error) {
      if (own === abort && error.name !== "AbortError") failed(error);
    }
  };
  read.stop = () => { abort?.abort(); abort = {}; };
  return read;
}

// At most one call in so many milliseconds; the last one asked for is always made.
export function paced(milliseconds, action) {
  let timer = null;
  let again = false;
  const run = () => {
    if (timer !== null) { again = true; return; }
    action();
    timer = setTimeout(() => {
      timer = null;
      if (again) { again = false; run(); }
    }, milliseconds);
  };
  run.stop = () => clearTimeout(timer);
  return run;
}
