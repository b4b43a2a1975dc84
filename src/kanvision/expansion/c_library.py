"""Elementary functions in C, in float32 without branches, so that compilers vectorize the loops around them.

Polynomials of Cephes (Moshier) on reduced arguments; all pass NaN on. Names end with f in float32; those in
double precision are the functions of the C library.
"""

__all__ = ["LIBRARY"]

LIBRARY = r"""
#include <math.h>
#include <stdint.h>

/* 2^n e^r, r = x - n log 2; the bounds keep 2^n a normal number, beyond them the value is 0 or infinite */
static inline float kv_expf(float x) {
  float y = x > 88.37f ? 88.37f : x;
  y = y < -87.33f ? -87.33f : y;
  const float n = __builtin_rintf(y * 1.44269504f);
  float r = y - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  union { int32_t i; float f; } scale;
  scale.i = ((int32_t)n + 127) << 23;
  const float z = x > 88.72f ? INFINITY : p * scale.f;
  return x < -87.34f ? 0.0f : z;
}

/* x times a polynomial of x^2 near 0, where the other form loses digits */
static inline float kv_tanhf(float x) {
  const float a = fabsf(x);
  const float e = kv_expf(2.0f * (a > 10.0f ? 10.0f : a));
  const float far = 1.0f - 2.0f / (1.0f + e);
  const float s = x * x;
  float p = -5.70498872745e-3f;
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  return a < 0.625f ? p * s * x + x : copysignf(far, x);
}

static inline float kv_sigmoidf(float x) { return 1.0f / (1.0f + kv_expf(-x)); }

/* quotient of polynomials up to |x| = 4, beyond which erf is 1 in float32 */
static inline float kv_erff(float x) {
  const float s = x * x;
  float p = -2.72614225801306e-10f;
  p = p * s + 2.77068142495902e-08f;
  p = p * s - 2.10102402082508e-06f;
  p = p * s - 5.69250639462346e-05f;
  p = p * s - 7.34990630326855e-04f;
  p = p * s - 2.95459980854025e-03f;
  p = p * s - 1.60960333262415e-02f;
  float q = -1.45660718464996e-05f;
  q = q * s - 2.13374055278905e-04f;
  q = q * s - 1.68282697438203e-03f;
  q = q * s - 7.37332916720468e-03f;
  q = q * s - 1.42647390514189e-02f;
  return fabsf(x) > 4.0f ? copysignf(1.0f, x) : x * p / q;
}

/* x minus a multiple of pi / 2 in three parts: exact to float32 up to |x| = 8192 */
static inline void kv_turn(float x, float *sine, float *cosine, int32_t *quarter) {
  const float n = __builtin_rintf(x * 0.636619772f);
  float r = x - n * 1.5703125f;
  r = r - n * 4.837512969970703125e-4f;
  r = r - n * 7.549789948768648e-8f;
  const float z = r * r;
  *quarter = (int32_t)n;
  *sine = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
  *cosine = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z
            - 0.5f * z + 1.0f;
}

static inline float kv_sinf(float x) {
  float s, c;
  int32_t q;
  kv_turn(x, &s, &c, &q);
  const float y = (q & 1) ? c : s;
  return (q & 2) ? -y : y;
}

static inline float kv_cosf(float x) {
  float s, c;
  int32_t q;
  kv_turn(x, &s, &c, &q);
  const float y = (q & 1) ? s : c;
  return ((q + 1) & 2) ? -y : y;
}

static inline double kv_exp(double x) { return exp(x); }
static inline double kv_tanh(double x) { return tanh(x); }
static inline double kv_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
static inline double kv_erf(double x) { return erf(x); }
static inline double kv_sin(double x) { return sin(x); }
static inline double kv_cos(double x) { return cos(x); }
"""
