//! Record types and client of the ACCESS (formerly XSEDE) AMIE Usage API.

mod decimal;
mod record;
pub mod wire;

pub use decimal::{Decimal, DecimalError};
pub use record::{
    AdjustmentType, AdjustmentUsageRecord, ComputeAttributes, ComputeUsageRecord, StorageAttributes,
    StorageUsageRecord, UsageType,
};
