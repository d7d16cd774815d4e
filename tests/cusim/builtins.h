#ifndef KVEC_TESTS_CUSIM_BUILTINS_H_
#define KVEC_TESTS_CUSIM_BUILTINS_H_

// What CUDA C++ gives to device code beyond C++: variables, barriers, warp collectives, atomics and
// intrinsics, as far as kernels/cuda uses them. Included by include/cuda_runtime.h.

#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/cusim/call_site.h"
#include "tests/cusim/device_calls.h"

extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;

// A kernel's shared memory; see kernels/cuda/shared_memory.h. A lambda's static marks the place,
// and is another one in each instance of a template.
#define KVEC_SHARED_ARRAY(type, name, extents)                                          \
  type(&name) extents = *static_cast<type(*) extents>(::kvec::cusim::StaticSharedArray( \
      []() -> const void* {                                                             \
        static char site;                                                               \
        return &site;                                                                   \
      }(),                                                                              \
      sizeof(type extents)))
#define KVEC_DYNAMIC_SHARED_ARRAY(type, name) \
  type* const name = static_cast<type*>(::kvec::cusim::DynamicSharedArray())

inline void __syncthreads(kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  kvec::cusim::Barrier(at);
}

inline void __syncwarp(unsigned mask = ~0u,
                       kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  kvec::cusim::SyncWarp(mask, at);
}

namespace kvec::cusim {

template <typename To, typename From>
To CopyBits(const From& from) {
  static_assert(sizeof(To) >= sizeof(From) || sizeof(From) == sizeof(uint64_t));
  To to{};
  std::memcpy(&to, &from, std::min(sizeof(to), sizeof(from)));
  return to;
}

// A lane outside its segment of `width` lanes keeps its own value.
template <typename T>
T Shuffle(unsigned mask, T value, int source, int width, kvec::cusim::CallSite at) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  const int segment = LaneId() & ~(width - 1);
  const int lane = source < 0 || source >= width ? LaneId() : segment + source;
  return CopyBits<T>(ShuffleBits(mask, CopyBits<uint64_t>(value), lane, at));
}

}  // namespace kvec::cusim

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  return kvec::cusim::Shuffle(mask, value, source & (width - 1), width, at);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                  kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  const int lane = kvec::cusim::LaneId() & (width - 1);
  return kvec::cusim::Shuffle(mask, value, lane ^ lane_mask, width, at);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  const int lane = kvec::cusim::LaneId() & (width - 1);
  return kvec::cusim::Shuffle(mask, value, lane - static_cast<int>(delta), width, at);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              kvec::cusim::CallSite at = kvec::cusim::CallSite::Current()) {
  return kvec::cusim::Ballot(mask, predicate != 0, at);
}

// Atomics are relaxed, as the hardware's.
namespace kvec::cusim {

template <typename T, typename Function>
T ReadModifyWrite(T* address, const Function& function) {
  T old;
  T desired;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do {
    desired = function(old);
  } while (!__atomic_compare_exchange(address, &old, &desired, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED));
  return old;
}

}  // namespace kvec::cusim

template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return kvec::cusim::ReadModifyWrite(address, [=](T old) { return static_cast<T>(old + value); });
}

template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return kvec::cusim::ReadModifyWrite(address, [=](T) { return value; });
}

template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return kvec::cusim::ReadModifyWrite(address, [=](T old) { return std::min(old, value); });
}

template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return kvec::cusim::ReadModifyWrite(address, [=](T old) { return std::max(old, value); });
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

inline int __float_as_int(float value) { return kvec::cusim::CopyBits<int>(value); }
inline unsigned __float_as_uint(float value) { return kvec::cusim::CopyBits<unsigned>(value); }
inline float __int_as_float(int bits) { return kvec::cusim::CopyBits<float>(bits); }

inline long long __double_as_longlong(double value) {
  return kvec::cusim::CopyBits<long long>(value);
}

// Rounded each by itself: volatile, so that no compiler makes one operation of two.
inline float __fmul_rn(float a, float b) {
  const volatile float product = a * b;
  return product;
}
inline float __fadd_rn(float a, float b) {
  const volatile float sum = a + b;
  return sum;
}
inline double __dmul_rn(double a, double b) {
  const volatile double product = a * b;
  return product;
}
inline double __dadd_rn(double a, double b) {
  const volatile double sum = a + b;
  return sum;
}

using std::max;
using std::min;

inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

#endif  // KVEC_TESTS_CUSIM_BUILTINS_H_
