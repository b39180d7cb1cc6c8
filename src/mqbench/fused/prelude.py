"""The C++ functions that the statements of a compiled loop call, so written that the loop is vectorised."""

PRELUDE = """
#include <cstdint>
#include <cstdlib>
#include <type_traits>
static inline float round_(float v) { return __builtin_rintf(v); }
static inline double round_(double v) { return __builtin_rint(v); }
static inline float floor_(float v) { return __builtin_floorf(v); }
static inline double floor_(double v) { return __builtin_floor(v); }
static inline float abs_(float v) { return __builtin_fabsf(v); }
static inline double abs_(double v) { return __builtin_fabs(v); }
static inline float sqrt_(float v) { return __builtin_sqrtf(v); }
static inline double sqrt_(double v) { return __builtin_sqrt(v); }
static inline float copysign_(float v, float s) { return __builtin_copysignf(v, s); }
static inline double copysign_(double v, double s) { return __builtin_copysign(v, s); }
static inline double tanh_(double v) { return __builtin_tanh(v); }
static inline double near_tanh_(double v) { return __builtin_tanh(v); }
static inline double middle_tanh_(double v) { return __builtin_tanh(v); }
static inline float near_tanh_(float v) {  // least squares of tanh(v)/v in v^2, to 2e-8
  const float z = v * v;
  float p = -5.02419017794e-3f;
  p = p * z + 1.99512713532e-2f; p = p * z - 5.34969764365e-2f; p = p * z + 1.33279482087e-1f;
  p = p * z - 3.33331043931e-1f;
  return (p * z + 1.0f) * v;  // z v would be subnormal, and slow, where v is 1e-14 (a folded batch norm of gamma 0)
}
static inline float middle_tanh_(float v) {  // rational, least squares of (tanh(v)/v - 1)/v^2 in v^2, to 1e-9
  const float z = v * v;
  float p = -5.56945755e-6f, q = 1.72582574e-2f;
  p = p * z - 1.59550238e-2f; p = p * z - 3.33333317e-1f;
  q = q * z + 4.47864846e-1f; q = q * z + 1.0f;
  return (p / q * z + 1.0f) * v;
}
template <class V> static inline V sign_(V v) { return V(v > V(0)) - V(v < V(0)); }
template <class V> static inline V clamp_(V v, T lo, T hi) { v = v < V(lo) ? V(lo) : v; return v > V(hi) ? V(hi) : v; }
template <class A, class B> static inline auto where_(bool c, A a, B b) -> decltype(a + b) { return c ? a : b; }
// to the last place or two of tanhf, but without branches or tables, so that the loop is vectorised
static inline float exp_(float v) {
  const float n = __builtin_rintf(v * 1.44269504f);
  float r = v - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f; p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
  const float e = p * r * r + r + 1.0f;
  union { int32_t i; float f; } scale;
  scale.i = (int32_t(n) + 127) << 23;
  return e * scale.f;
}
static inline float tanh_(float v) {
  const float a = __builtin_fabsf(v), z = v * v;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f; p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f; p = p * z - 3.33332819422e-1f;
  const float near = (p * z + 1.0f) * v;
  const float far = 1.0f - 2.0f / (exp_(2.0f * (a > 20.0f ? 20.0f : a)) + 1.0f);
  return a < 0.625f ? near : v != v ? v : __builtin_copysignf(far, v);
}
"""
