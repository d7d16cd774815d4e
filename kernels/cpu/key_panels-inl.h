// Keys as the float32 products of prefill attention and of window scores want them. Included once
// per instruction set by files that use hwy/foreach_target.h, hence no ordinary include guard.
#if defined(KVEC_KERNELS_CPU_KEY_PANELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVEC_KERNELS_CPU_KEY_PANELS_INL_H_
#undef KVEC_KERNELS_CPU_KEY_PANELS_INL_H_
#else
#define KVEC_KERNELS_CPU_KEY_PANELS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/hadamard-inl.h"
#include "kernels/cpu/int8_number-inl.h"
#include "kernels/cpu/kv_number-inl.h"
#include "kernels/cpu/panel_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Keys of a panel, [head_dim][keys].
HWY_INLINE size_t KeyPanelKeys() { return kPanelVecs * hn::Lanes(hn::ScalableTag<float>()); }

// Calls fn(part, to) for the registers of a page's keys: `to` is the place of the page's token
// `part` in dimension 0, for a page that begins at key `first_key` of the panels.
template <class Fn>
HWY_INLINE void ForKeyRegisters(size_t head_dim, size_t first_key, float* panels, const Fn& fn) {
  const size_t panel_keys = KeyPanelKeys();
  for (size_t part = 0; part < kPageTokens; part += hn::Lanes(hn::ScalableTag<float>())) {
    const size_t key = first_key + part;
    fn(part, panels + key / panel_keys * panel_keys * head_dim + key % panel_keys);
  }
}

HWY_INLINE void WidenInt8Keys(const CpuKvArena& arena, int32_t page, size_t first_key,
                              float* panels) {
  const hn::ScalableTag<float> d;
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  const size_t panel_keys = KeyPanelKeys();
  ForKeyRegisters(head_dim, first_key, panels, [&](size_t part, float* to) HWY_ATTR {
    const auto scales = Float16Number::Load(d, arena.key_scales(page) + part);
    const uint8_t* from = arena.keys(page) + 2 * part;
    for (size_t dim = 0; dim < head_dim; dim += 2, from += 2 * kPageTokens) {
      hn::Vec<decltype(d)> first;
      hn::Vec<decltype(d)> second;
      LoadPairs(d, from, first, second);
      hn::Store(hn::Mul(first, scales), d, to + dim * panel_keys);
      hn::Store(hn::Mul(second, scales), d, to + (dim + 1) * panel_keys);
    }
  });
}

// Widens the keys of a page into their place among panels; `first_key` is a multiple of
// kPageTokens.
HWY_INLINE void WidenKeys(const CpuKvArena& arena, int32_t page, size_t first_key, float* panels) {
  if (arena.spec().type == KvType::kInt8) return WidenInt8Keys(arena, page, first_key, panels);
  const hn::ScalableTag<float> d;
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  const size_t panel_keys = KeyPanelKeys();
  WithKvNumber(arena.spec().type, [&](auto number) HWY_ATTR {
    using Number = decltype(number);
    const auto* keys = reinterpret_cast<const typename Number::Stored*>(arena.keys(page));
    ForKeyRegisters(head_dim, first_key, panels, [&](size_t part, float* to) HWY_ATTR {
      for (size_t dim = 0; dim < head_dim; ++dim) {
        hn::Store(Number::Load(d, keys + dim * kPageTokens + part), d, to + dim * panel_keys);
      }
    });
  });
}

// to[head_dim] = the query times `scale`, as the arena's keys are to meet it.
HWY_INLINE void ScaleQuery(const CpuKvArena& arena, const float* query, float scale, float* to) {
  const hn::CappedTag<float, 8> d;  // head_dim is a multiple of 8
  const size_t head_dim = static_cast<size_t>(arena.spec().head_dim);
  if (arena.spec().type == KvType::kInt8) return RotateHead(query, head_dim, scale, to);
  for (size_t i = 0; i < head_dim; i += hn::Lanes(d)) {
    hn::StoreU(hn::Mul(hn::LoadU(d, query + i), hn::Set(d, scale)), d, to + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVEC_KERNELS_CPU_KEY_PANELS_INL_H_
