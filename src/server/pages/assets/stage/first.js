// Runs before the first paint, so that nothing moves: an address that names a beat or a run skips the opening. Settings are shown at the
// last beat, and wherever the address has some.
document.documentElement.className = ["js", location.hash.length > 1 && "told", /^#your-turn$|=/.test(location.hash) && "tuning"].filter(Boolean).join(" ");
