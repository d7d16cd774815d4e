#ifndef KVEC_WORKER_MODEL_RANK_HEADS_H_
#define KVEC_WORKER_MODEL_RANK_HEADS_H_

#include "common/model/rank_share.h"
#include "kernels/tensor.h"

namespace kvec::worker::model {

// The heads of a rank's share as kernels see them.
inline kernels::HeadShape HeadsOf(const RankShare& share, const ModelConfig& config) {
  const int group_size = config.num_heads / config.num_kv_heads;
  return {.num_heads = share.heads.count,
          .num_kv_heads = share.kv_heads.count,
          .head_dim = config.head_dim,
          .group_size = group_size,
          .group_offset = share.heads.begin - share.kv_heads.begin * group_size};
}

}  // namespace kvec::worker::model

#endif  // KVEC_WORKER_MODEL_RANK_HEADS_H_
