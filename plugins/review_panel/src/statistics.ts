// How a review goes: speed, and precision with its interval.

export type Interval = { share: number; low: number; high: number };

const Z = 1.96; // of a 95 % interval
const LONGEST_PAUSE = 60_000; // longer ones are not review time

/** Wilson's 95 % interval of a share. */
export function wilson(right: number, total: number): Interval | null {
  if (!total) return null;
  const share = right / total;
  const middle = (share + (Z * Z) / (2 * total)) / (1 + (Z * Z) / total);
  const half = (Z / (1 + (Z * Z) / total)) * Math.sqrt((share * (1 - share)) / total + (Z * Z) / (4 * total * total));
  return { share, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Decisions a minute from the times of decisions in milliseconds; null before the third. */
export function perMinute(times: number[]): number | null {
  if (times.length < 3) return null;
  let spent = 0;
  for (let i = 1; i < times.length; i++) spent += Math.min(times[i]! - times[i - 1]!, LONGEST_PAUSE);
  return spent > 0 ? ((times.length - 1) * 60_000) / spent : null;
}
