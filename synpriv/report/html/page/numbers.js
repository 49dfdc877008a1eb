/** A share as per cent, two digits more where it is small. */
function percent(share) {
  if (share === null || Number.isNaN(share)) return "-";
  const digits = share >= 0.1 || share === 0 ? 1 : share >= 0.001 ? 2 : 3;
  return `${(100 * share).toFixed(digits)}%`;
}

/** A number with so many significant digits and no exponent where it can be read without. */
function short(value, digits = 3) {
  if (value === null) return "-";
  return Number(value.toPrecision(digits)).toLocaleString("en", {
    maximumSignificantDigits: digits,
  });
}

/**
 * Of those who are accused, the share of members.
 * @param {number} tpr @param {number} fpr @param {number} prior share of members among those asked
 * @returns {number} NaN where nobody is accused
 */
function ppv(tpr, fpr, prior) {
  return (tpr * prior) / (tpr * prior + fpr * (1 - prior));
}

const RESOLVED = 10; // counts below which a rate is mostly noise

/** The chance of at most so many of n, each with chance p. */
function atMost(count, n, p) {
  let term = n * Math.log1p(-p); // of none, as a logarithm
  let sum = Math.exp(term);
  for (let k = 1; k <= count; k++) {
    term += Math.log((n - k + 1) / k) + Math.log(p) - Math.log1p(-p);
    sum += Math.exp(term);
  }
  return sum;
}

/** The chance p at which at most so many of n have a chance of `tail`. */
function chanceWhere(count, n, tail) {
  let [low, high] = [0, 1];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (atMost(count, n, middle) > tail) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * Where the rate of a count may lie: the exact 95% limits of Clopper and Pearson (1934) of one below
 * `RESOLVED`, as if all scores were independent; of any other the rate itself.
 */
function limits(count, n) {
  if (count >= RESOLVED) return [count / n, count / n];
  const low = count === 0 ? 0 : chanceWhere(count - 1, n, 0.975);
  return [low, count >= n ? 1 : chanceWhere(count, n, 0.025)];
}

/** What an attacker does who accuses from the i-th threshold on: counts and shares. */
function accusation(cell, i) {
  const tp = cell.scores.true_positives[i];
  const fp = cell.scores.false_positives[i];
  return {
    threshold: cell.scores.thresholds[i],
    tp,
    fp,
    tpr: tp / cell.n_in,
    fpr: fp / cell.n_out,
  };
}

/** The last threshold of those, falling, that accuses at most this share of the non-members. */
function thresholdAt(cell, fpr) {
  const allowed = Math.floor(fpr * cell.n_out * (1 + 1e-12)); // as synpriv.audit.metrics.allowed
  const after = cell.scores.false_positives.findIndex((count) => count > allowed);
  if (after < 0) return cell.scores.thresholds.length - 1;
  return Math.max(after - 1, 0);
}

/** What a rate is called: tpr@fpr=0.01 -> TPR at 1% FPR. */
function panelName(key) {
  const at = key.split("fpr=")[1];
  return at === undefined ? "AUC" : `TPR at ${short(100 * Number(at))}% FPR`;
}

/** Seconds as somebody would say them. */
function duration(seconds) {
  if (seconds === null) return "not timed";
  if (seconds < 120) return `${short(seconds)} s`;
  return seconds < 7200 ? `${short(seconds / 60)} min` : `${short(seconds / 3600)} h`;
}

const NO_MORE = "no more than the largest by chance";

/** Whether an effect is no larger than the largest that chance gives. */
function byChance(effect, chance) {
  return effect !== null && chance !== null && effect <= chance;
}

/** The largest effect that chance gives, in words. */
function upTo(chance) {
  return chance === null ? "not known" : `up to ${short(chance)} sd`;
}
