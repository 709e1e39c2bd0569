// float16, of which JavaScript before Node.js 24 has no array: its bit patterns stand in a Uint16Array.

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** Returns the float16 bit pattern nearest to a number; ties go to the even one, as IEEE 754 rounds. */
function patternOf(value) {
  float[0] = value;
  const sign = (bits[0] >>> 16) & 0x8000;
  const magnitude = bits[0] & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // not a number
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520 and more round to infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14 float16 counts in units of 2^-24.
    const units = Math.abs(float[0]) * 2 ** 24;
    const whole = Math.floor(units);
    const rest = units - whole;
    return sign | (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 === 1) ? 1 : 0));
  }
  // 13 bits of the fraction go, and the exponent counts from -15 and not from -127.
  return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
}

function valueOf(pattern) {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >>> 10) & 0x1f;
  const fraction = pattern & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Rounds numbers to float16. @returns {Uint16Array} bit patterns, as an ONNX Runtime tensor takes them */
export const toHalf = (values) => Uint16Array.from(values, patternOf);

/** Reads float16 bit patterns. @returns {Float32Array} which holds every float16 exactly */
export const fromHalf = (patterns) => Float32Array.from(patterns, valueOf);
