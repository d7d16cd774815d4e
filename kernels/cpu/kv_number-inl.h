// Loads and stores of the arena's number types as float32. Included once per instruction set by
// files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_KV_NUMBER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_KV_NUMBER_INL_H_
#undef KVEC_KERNELS_CPU_KV_NUMBER_INL_H_
#else
#define KVEC_KERNELS_CPU_KV_NUMBER_INL_H_
#endif

#include <cstdint>

#include "common/tensor/dequantize.h"
#include "hwy/highway.h"
#include "kernels/kv_arena.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Each type has its storage, and conversions of a register of floats.
struct BFloat16Number {
  using Stored = uint16_t;

  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const Stored* from) {
    const hn::Rebind<uint16_t, D> du16;
    const hn::RebindToUnsigned<D> du32;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, from))));
  }

  // Rounds to nearest even.
  template <class D>
  static HWY_INLINE void Store(D d, hn::Vec<D> v, Stored* to) {
    const hn::Rebind<uint16_t, D> du16;
    const hn::RebindToUnsigned<D> du32;
    const hn::RebindToSigned<D> di32;
    const auto bits = hn::BitCast(du32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du32, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du32, 0x7FFF)));
    const auto quiet_nan = hn::Set(du32, 0x7FC00000);
    const auto kept = hn::IfThenElse(hn::RebindMask(du32, hn::IsNaN(v)), quiet_nan, rounded);
    hn::StoreU(hn::DemoteTo(du16, hn::BitCast(di32, hn::ShiftRight<16>(kept))), du16, to);
  }
};

struct Float16Number {
  using Stored = uint16_t;

  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const Stored* from) {
#if HWY_TARGET == HWY_SCALAR
    return hn::Set(d, HalfToFloat(*from));  // Highway's scalar conversion knows no infinity or NaN
#else
    const hn::Rebind<hwy::float16_t, D> df16;
    return hn::PromoteTo(d, hn::LoadU(df16, reinterpret_cast<const hwy::float16_t*>(from)));
#endif
  }

  // Rounds to nearest even.
  template <class D>
  static HWY_INLINE void Store(D d, hn::Vec<D> v, Stored* to) {
#if HWY_TARGET == HWY_SCALAR
    *to = FloatToHalf(hn::GetLane(v));  // Highway's scalar conversion cuts off
#else
    const hn::Rebind<hwy::float16_t, D> df16;
    hn::StoreU(hn::DemoteTo(df16, v), df16, reinterpret_cast<hwy::float16_t*>(to));
#endif
  }
};

struct Float32Number {
  using Stored = float;

  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const Stored* from) {
    return hn::LoadU(d, from);
  }

  template <class D>
  static HWY_INLINE void Store(D d, hn::Vec<D> v, Stored* to) {
    hn::StoreU(v, d, to);
  }
};

// Calls fn(Number()) with the struct of `type`, which is not kInt8: numbers that have a scale are
// read otherwise (int8_number-inl.h).
template <class Fn>
HWY_INLINE void WithKvNumber(KvType type, const Fn& fn) {
  switch (type) {
    case KvType::kBF16:
      return fn(BFloat16Number());
    case KvType::kF16:
      return fn(Float16Number());
    case KvType::kF32:
      return fn(Float32Number());
    case KvType::kInt8:
      return;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_KV_NUMBER_INL_H_
