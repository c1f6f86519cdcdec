// Figures as text.

/** `money(4900, "EUR")` is EUR 49.00. */
export const money = (amount, currency) => `${currency} ${(amount / 100).toFixed(2)}`;

/** A time in microseconds. */
export const milliseconds = (t) => (t < 999_500 ? `${(t / 1000).toFixed(1)} ms` : `${(t / 1_000_000).toFixed(2)} s`);

const TIMES = ["never", "once", "twice", "three times"];
export const often = (count) => TIMES[count] ?? `${count} times`;

/** Two digits or so: 1.5, 23, 140. */
export const rough = (number) => (number >= 100 ? Math.round(number / 10) * 10 : number >= 10 ? Math.round(number) : Math.round(number * 10) / 10);
