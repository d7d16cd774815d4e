#include "worker/comm/ucx_communicator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "worker/comm/rank_ordered_sum.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::comm {
namespace {

// From here on three or more ranks exchange slices: 2 (R - 1) / R times the data instead of R - 1
// times, in two rounds instead of one.
constexpr size_t kSliceBytes = 64 << 10;

absl::Span<uint8_t> AsBytes(absl::Span<float> data) {
  return {reinterpret_cast<uint8_t*>(data.data()), data.size() * sizeof(float)};
}

}  // namespace

UcxCommunicator::UcxCommunicator(std::shared_ptr<UcxLinks> links, std::vector<int> members,
                                 const Options& options)
    : links_(std::move(links)), members_(std::move(members)), options_(options) {
  const auto self = std::find(members_.begin(), members_.end(), links_->self());
  rank_ = static_cast<int>(self - members_.begin());
}

uint64_t UcxCommunicator::Tag(Kind kind, int from_rank) const {
  return uint64_t{options_.group_id} << 32 | uint64_t{options_.channel} << 24 |
         uint64_t{static_cast<uint8_t>(kind)} << 16 | static_cast<uint16_t>(from_rank);
}

void UcxCommunicator::PostSend(UcxTransfer& transfer, Kind kind, int to,
                               absl::Span<const uint8_t> data) const {
  transfer.Send(members_[to], Tag(kind, rank_), data);
}

void UcxCommunicator::PostReceive(UcxTransfer& transfer, Kind kind, int from,
                                  absl::Span<uint8_t> data) const {
  transfer.Receive(members_[from], Tag(kind, from), data);
}

absl::Time UcxCommunicator::Deadline() const { return absl::Now() + options_.timeout; }

absl::Status UcxCommunicator::CheckPeer(absl::string_view what, int rank) const {
  if (rank >= 0 && rank < size() && rank != rank_) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " rank ", rank, " by rank ", rank_, " of ", size()));
}

absl::Status UcxCommunicator::AllReduceSum(kernels::Tensor x) {
  const size_t num_floats = static_cast<size_t>(x.rows) * static_cast<size_t>(x.cols);
  if (num_floats == 0) return absl::OkStatus();
  const size_t num_bytes = num_floats * sizeof(float);
  const bool by_slices = size() > 2 && num_bytes >= kSliceBytes;
  const size_t num_others = members_.size() - 1;
  // Slices travel twice: to be summed, and summed.
  const trace::ScopedSpan span("all-reduce", by_slices
                                                 ? 2 * num_bytes * num_others / members_.size()
                                                 : num_bytes * num_others);
  const auto sum = [this, by_slices](absl::Span<float> data) {
    return by_slices ? SumSlices(data) : SumWhole(data);
  };
  if (x.stride == x.cols || x.rows == 1) return sum(absl::MakeSpan(x.data, num_floats));
  packed_.resize(std::max(packed_.size(), num_floats));
  for (int row = 0; row < x.rows; ++row) {
    std::copy_n(x.data + row * x.stride, x.cols, packed_.begin() + int64_t{row} * x.cols);
  }
  KVEC_RETURN_IF_ERROR(sum(absl::MakeSpan(packed_.data(), num_floats)));
  for (int row = 0; row < x.rows; ++row) {
    std::copy_n(packed_.begin() + int64_t{row} * x.cols, x.cols, x.data + row * x.stride);
  }
  return absl::OkStatus();
}

absl::Status UcxCommunicator::SumWhole(absl::Span<float> data) {
  const size_t num_others = members_.size() - 1;
  received_.resize(std::max(received_.size(), data.size() * num_others));
  std::vector<const float*> parts;
  UcxTransfer transfer(*links_, "all-reduce");
  float* next = received_.data();
  for (int rank = 0; rank < size(); ++rank) {
    if (rank == rank_) {
      parts.push_back(data.data());
      continue;
    }
    PostReceive(transfer, Kind::kAllReduce, rank, AsBytes(absl::MakeSpan(next, data.size())));
    parts.push_back(next);
    next += data.size();
  }
  for (int i = 1; i < size(); ++i) {
    PostSend(transfer, Kind::kAllReduce, (rank_ + i) % size(), AsBytes(data));
  }
  KVEC_RETURN_IF_ERROR(transfer.Wait(Deadline()));
  SumInRankOrder(parts, data);
  return absl::OkStatus();
}

absl::Status UcxCommunicator::SumSlices(absl::Span<float> data) {
  const auto slice = [this, data](int rank) {
    const size_t begin = data.size() * rank / members_.size();
    return data.subspan(begin, data.size() * (rank + 1) / members_.size() - begin);
  };
  const absl::Span<float> mine = slice(rank_);
  received_.resize(std::max(received_.size(), mine.size() * (members_.size() - 1)));
  std::vector<const float*> parts;
  {
    UcxTransfer scatter(*links_, "all-reduce");
    float* next = received_.data();
    for (int rank = 0; rank < size(); ++rank) {
      if (rank == rank_) {
        parts.push_back(mine.data());
        continue;
      }
      PostReceive(scatter, Kind::kAllReduce, rank, AsBytes(absl::MakeSpan(next, mine.size())));
      parts.push_back(next);
      next += mine.size();
    }
    for (int i = 1; i < size(); ++i) {
      const int to = (rank_ + i) % size();
      PostSend(scatter, Kind::kAllReduce, to, AsBytes(slice(to)));
    }
    KVEC_RETURN_IF_ERROR(scatter.Wait(Deadline()));
  }
  SumInRankOrder(parts, mine);
  UcxTransfer gather(*links_, "all-reduce");
  for (int i = 1; i < size(); ++i) {
    const int from = (rank_ + size() - i) % size();
    PostReceive(gather, Kind::kAllReduce, from, AsBytes(slice(from)));
  }
  for (int i = 1; i < size(); ++i) {
    PostSend(gather, Kind::kAllReduce, (rank_ + i) % size(), AsBytes(mine));
  }
  return gather.Wait(Deadline());
}

absl::Status UcxCommunicator::AllGather(absl::Span<const uint8_t> mine, absl::Span<uint8_t> all) {
  if (all.size() != mine.size() * members_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("all-gather: ", mine.size(), " bytes of ",
                                                   size(), " ranks into ", all.size()));
  }
  if (mine.empty()) return absl::OkStatus();
  const trace::ScopedSpan span("all-gather", mine.size() * (members_.size() - 1));
  const auto part = [&](int rank) { return all.subspan(rank * mine.size(), mine.size()); };
  if (part(rank_).data() != mine.data()) {
    std::memmove(part(rank_).data(), mine.data(), mine.size());
  }
  UcxTransfer transfer(*links_, "all-gather");
  for (int i = 1; i < size(); ++i) {
    const int from = (rank_ + size() - i) % size();
    PostReceive(transfer, Kind::kAllGather, from, part(from));
  }
  for (int i = 1; i < size(); ++i) {
    PostSend(transfer, Kind::kAllGather, (rank_ + i) % size(), part(rank_));
  }
  return transfer.Wait(Deadline());
}

absl::Status UcxCommunicator::Broadcast(int root, absl::Span<uint8_t> data) {
  if (root < 0 || root >= size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("broadcast: root ", root, " of ", size(), " ranks"));
  }
  if (data.empty()) return absl::OkStatus();
  const trace::ScopedSpan span("broadcast",
                               root == rank_ ? data.size() * (members_.size() - 1) : 0);
  UcxTransfer transfer(*links_, "broadcast");
  if (root != rank_) {
    PostReceive(transfer, Kind::kBroadcast, root, data);
  } else {
    for (int i = 1; i < size(); ++i) {
      PostSend(transfer, Kind::kBroadcast, (rank_ + i) % size(), data);
    }
  }
  return transfer.Wait(Deadline());
}

absl::Status UcxCommunicator::Send(int to, absl::Span<const uint8_t> data) {
  KVEC_RETURN_IF_ERROR(CheckPeer("send: to", to));
  if (data.empty()) return absl::OkStatus();
  const trace::ScopedSpan span("send", data.size());
  UcxTransfer transfer(*links_, "send");
  PostSend(transfer, Kind::kMessage, to, data);
  return transfer.Wait(Deadline());
}

absl::Status UcxCommunicator::Receive(int from, absl::Span<uint8_t> data) {
  KVEC_RETURN_IF_ERROR(CheckPeer("receive: from", from));
  if (data.empty()) return absl::OkStatus();
  const trace::ScopedSpan span("receive");
  UcxTransfer transfer(*links_, "receive");
  PostReceive(transfer, Kind::kMessage, from, data);
  return transfer.Wait(Deadline());
}

}  // namespace kvec::worker::comm
